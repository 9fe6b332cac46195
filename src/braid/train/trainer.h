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

struct LossSums {
  double loss = 0, squared_log_sum_exp = 0;
};

class Trainer {
 public:
  Trainer(const Backend& backend, const RunConfig& config);

  // One optimiser step, counted from 1, on `batch_size` instances. Throws, leaving the parameters untouched,
  // when the loss or a gradient is not finite.
  StepResult step(const data::Batch& batch, std::int64_t step);
  // Sums over the predicted tokens of at most micro_batch_size instances.
  LossSums score(const data::Batch& batch);

  const Backend& backend() const { return backend_; }
  const model::ParameterSet& parameters() const { return parameters_; }
  const model::ParameterSet& first_moment() const { return first_; }
  const model::ParameterSet& second_moment() const { return second_; }
  std::size_t planned_bytes() const;
  // Peaks of the last step; they equal the plan.
  const model::WorkMemory& work() const { return work_; }

 private:
  struct Micro;
  void plan(std::int64_t segments);
  LossSums accumulate(const Micro& micro, double scale);
  void update(std::int64_t step, double rate);

  const Backend& backend_;
  const RunConfig& config_;
  model::ParameterSet parameters_, gradients_, first_, second_;
  std::vector<model::NamedParameter> parameter_list_, gradient_list_, first_list_, second_list_;
  Buffer policy_buffer_, norm_buffer_;
  model::Policy policy_;
  Tensor norm_;  // (2): gradient norm, clip scale
  model::WorkMemory work_;
  std::int64_t planned_segments_ = 0;
};

}  // namespace braid::train
