// The most probable next tokens, by the ordinary forward pass.
#pragma once
#include <array>
#include <set>

#include "braid/data/batches.h"
#include "braid/model/language_model.h"
#include "braid/model/work_memory.h"

namespace braid::lab {

class Predictor {
 public:
  // `backend` and `config` must outlive it. `activations`: what the layers compute in.
  Predictor(const Backend& backend, const model::ModelConfig& config, DType activations)
      : backend_(backend), config_(config), activations_(activations) {}

  // For each of these tokens of the batch the id, below `vocabulary`, that is most probable to follow it; of
  // equal ones the smallest; -1 where a logit is NaN.
  std::vector<std::int32_t> predict(const model::Parameters& weights, const data::Batch& batch,
                                    std::span<const std::int32_t> rows, std::int64_t vocabulary);

 private:
  void make_policy(std::int64_t positions);

  const Backend& backend_;
  const model::ModelConfig& config_;
  DType activations_;
  std::int64_t positions_ = 0;  // that the policy reaches
  Buffer policy_buffer_;
  model::Policy policy_;
  model::WorkMemory work_;
  std::set<std::array<std::int64_t, 4>> planned_;  // tokens, segments, the longest, rows: fit in it
};

}  // namespace braid::lab
