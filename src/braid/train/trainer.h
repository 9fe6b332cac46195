// The model in training: parameters, gradients and optimiser moments in memory planned once, advanced by one
// step at a time. A step is a pure function of this state and its batch.
#pragma once
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "braid/model/work_memory.h"
#include "braid/ops/optimizer.h"
#include "braid/train/memory_plan.h"
#include "braid/train/step_inputs.h"
#include "braid/train/trainer_state.h"

namespace braid::train {

struct StepResult {
  double loss = 0;           // mean cross entropy of the predicted tokens, nats
  double z_loss = 0;         // mean logsumexp², without its coefficient
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  std::uint64_t saturated = 0;  // values clamped to a narrower range; a recomputed block counts again
  bool skipped = false;         // no update was made: by SkipStep, or by train.skip_steps
  double step_factor = 1;       // what the update was multiplied by: 1, or 0 when skipped
  double loss_spikes = 0, gradient_norm_spikes = 0;  // StabilityMonitor's fractions, this step included

  // False for train.skip_steps, which compute nothing: loss, z_loss and gradient_norm are NaN.
  bool measured() const { return !std::isnan(loss); }
};

// What the steps since the last set_tally() came to.
struct StepTally {
  double loss = 0, z_loss = 0, gradient_norm = 0;  // of the last one
  double loss_sum = 0;                             // of `loss`
  std::int64_t steps = 0;                          // those after a failed one are not entered
  std::int64_t failed_step = 0;                    // the first that was not finite, from 1; 0: none
};

// Sums over the predicted tokens.
struct ScoreResult {
  double loss = 0;
  std::uint64_t saturated = 0;
};

// The loss or a gradient of a step is not finite: the run diverged, or its data are broken.
struct NotFinite : Error {
  using Error::Error;
};

class Trainer {
 public:
  Trainer(const Backend& backend, const RunConfig& config);

  // One optimiser step, counted from 1, on instances_in(step) instances of at most data.sequence_length
  // tokens. Throws NotFinite, leaving parameters and moments untouched, when the loss or a gradient is not
  // finite; the error names where that began.
  StepResult step(const data::Batch& batch, std::int64_t step);
  // The same without waiting for the device, but where SkipStep decides: tally() tells later what came of it.
  // Where a step is not finite, neither it nor a later one updates anything, until set_tally(). The
  // StabilityMonitor does not see such steps.
  void enqueue(const data::Batch& batch, std::int64_t step);
  // Waits for the device.
  StepTally tally() const;
  // What later steps are added to.
  void set_tally(const StepTally& tally);
  // Throws the NotFinite of a step that tally() says failed, trained on that batch. Sets the tally to
  // nothing.
  [[noreturn]] void fail_step(const data::Batch& batch, std::int64_t step);
  // The loss of every token (0 where nothing is predicted) of at most batch_size instances, of which more
  // than micro_batch_size must be a multiple of it or a last part.
  std::vector<float> token_losses(const data::Batch& batch);
  // At most micro_batch_size instances.
  ScoreResult score(const data::Batch& batch);

  // To be called after the parameters were written from outside.
  void parameters_changed();
  // Throws, naming it, where a parameter or moment is not finite: to be called before they are saved.
  void require_finite(std::int64_t step);

  // What a checkpoint holds besides parameters and moments.
  TrainerState state() const;
  void restore(const TrainerState& state);

  const Backend& backend() const { return backend_; }
  DType activations() const { return activations_; }
  // What the layers compute with: the parameters, or their copy in bf16.
  const model::Parameters& weights() const {
    return activations_ == DType::bf16 ? compute_.tree() : parameters_.tree();
  }
  const model::ParameterSet& parameters() const { return parameters_; }
  const model::ParameterSet& first_moment() const { return first_; }
  const model::ParameterSet& second_moment() const { return second_; }
  MemoryPlan memory_plan() const;
  // The largest that would fit here with train.recompute as it is, at most `limit`.
  std::int64_t largest_micro_batch(std::int64_t limit);
  // Peaks of the last step; they equal the plan.
  const model::WorkMemory& work() const { return work_; }

 private:
  // Only ever dry: the shapes of whatever runs in the step's memory.
  void largest_work(Context& ctx, Arena& step, const PartShape& largest, const model::KeepPlan&);
  std::size_t work_bytes(const WorkShape& shape, const model::KeepPlan&);
  PartShape largest_part(const WorkShape& shape) const;
  void make_work_memory();
  void require_batch(const data::Batch& batch, std::int64_t step) const;
  // Copies a batch to the device and sees to it that its parts fit.
  StepInputs take(const data::Batch& batch, const StepNumbers& numbers);
  // Token losses of one part.
  model::TokenLosses losses_of(const StepInputs& inputs, std::size_t part) const;
  void score_into(const StepInputs& inputs);
  // Gradients of the whole batch, its losses, their norm, and their place in the tally.
  void sum_gradients(const StepInputs& inputs);
  // AdamW by inputs.rates().
  void update(const StepInputs& inputs);
  // Both; 0 where SkipStep leaves the update out, else 1.
  double train_on(const data::Batch& batch, std::int64_t step);
  // Where this step, whose mean loss that was, first met a value that is not finite.
  std::string cause_of_non_finite(const data::Batch& batch, double loss);
  // Values clamped since the last call. To be called where the device is waited for anyway.
  std::uint64_t newly_saturated();
  const Backend& backend_;
  const RunConfig& config_;
  DType activations_;
  std::size_t free_;  // before anything was allocated
  model::ParameterSet parameters_, gradients_, first_, second_;
  model::ComputeCopy compute_;  // empty in f32
  std::vector<model::NamedParameter> parameter_list_, gradient_list_, first_list_, second_list_,
      compute_list_;
  std::vector<ops::AdamWPart> update_parts_;
  ops::AdamWOptions update_options_;
  Buffer policy_buffer_, results_buffer_, inputs_buffer_;
  model::Policy policy_;
  Tensor norm_;                // (2): gradient norm, clip scale
  Tensor clip_;                // (2): the same, NaN where the step or one before it is not finite
  Tensor tally_;               // ops::kTallyElements
  model::TokenLosses losses_;  // of the step's whole batch
  model::WorkMemory work_;
  std::set<PartShape> planned_;  // fit in it
  // By the shapes of a step's parts: its gradients, with plain AdamW the update too, and SkipStep's update.
  struct Repeated {
    RepeatedWork gradients, update;
  };
  std::map<std::vector<PartShape>, Repeated> repeated_;
  model::KeepPlan keep_;
  std::uint64_t saturated_ = 0;
  std::int64_t updates_ = 0;           // made so far
  std::optional<SkipStep> skip_step_;  // where the optimiser has it
  StabilityMonitor stability_;
};

}  // namespace braid::train
