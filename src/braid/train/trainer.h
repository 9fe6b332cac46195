// The model in training: parameters, gradients and optimiser moments in memory planned once, advanced by one
// step at a time. A step is a pure function of this state and its batch.
#pragma once
#include "braid/data/batches.h"
#include "braid/model/host_batch.h"
#include "braid/model/work_memory.h"
#include "braid/train/config.h"

namespace braid::train {

struct StepResult {
  double loss = 0;           // mean cross entropy of the predicted tokens, nats
  double z_loss = 0;         // mean logsumexp², without its coefficient
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
};

using model::LossSums;

class Trainer {
 public:
  Trainer(const Backend& backend, const RunConfig& config);

  // One optimiser step, counted from 1, on `batch_size` instances. Throws, leaving the parameters untouched,
  // when the loss or a gradient is not finite.
  StepResult step(const data::Batch& batch, std::int64_t step);
  // Sums over the predicted tokens of at most micro_batch_size instances.
  LossSums score(const data::Batch& batch);

  // To be called after the parameters were written from outside.
  void parameters_changed();

  // Blocks whose activations are kept where the others are computed again.
  std::int64_t kept_blocks() const { return kept_blocks_; }
  const Backend& backend() const { return backend_; }
  DType activations() const { return activations_; }
  const model::ParameterSet& parameters() const { return parameters_; }
  const model::ParameterSet& first_moment() const { return first_; }
  const model::ParameterSet& second_moment() const { return second_; }
  // All memory that a step needs: parameters, gradients, moments, tables, activations and scratch.
  std::size_t planned_bytes() const;
  // Peaks of the last step; they equal the plan.
  const model::WorkMemory& work() const { return work_; }

 private:
  struct Micro;
  model::LossOptions loss_options() const;
  void largest_work(Context& ctx, Arena& step, const model::HostBatch& largest);
  std::size_t work_bytes(const model::HostBatch& largest);
  void choose_plan(const model::HostBatch& largest);
  void ensure_planned(const Micro& micro);
  // Token losses of the micro-batch that begins at that token of the step's batch.
  model::TokenLosses losses_at(std::int64_t token, std::int64_t tokens) const;
  void accumulate(const Micro& micro, const model::TokenLosses& losses, double scale);
  void update(std::int64_t step, double rate);
  // What the layers compute with.
  const model::Parameters& weights() const {
    return activations_ == DType::bf16 ? compute_.tree() : parameters_.tree();
  }

  const Backend& backend_;
  const RunConfig& config_;
  DType activations_;
  model::ParameterSet parameters_, gradients_, first_, second_;
  model::ComputeCopy compute_;  // empty in f32
  std::vector<model::NamedParameter> parameter_list_, gradient_list_, first_list_, second_list_,
      compute_list_;
  Buffer policy_buffer_, results_buffer_;
  model::Policy policy_;
  Tensor norm_;                // (2): gradient norm, clip scale
  model::TokenLosses losses_;  // of the step's whole batch, read once at its end
  model::WorkMemory work_;
  std::vector<std::int32_t> planned_offsets_;
  std::int64_t kept_blocks_ = 0;
};

}  // namespace braid::train
