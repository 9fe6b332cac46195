#include "braid/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "braid/ops/elementwise.h"
#include "braid/ops/tally_step.h"

namespace braid::train {
namespace {

DType activations_of(const Backend& backend, Precision precision) {
  if (precision == Precision::f32) return DType::f32;
  const DType wanted = backend.activation_dtype(DType::bf16);
  require(wanted == DType::bf16 || precision == Precision::automatic,
          "train.precision: backend '{}' computes in f32 only: choose f32 or auto", backend.name);
  return wanted;
}

// Free memory, checked to hold what does not depend on the batch.
std::size_t checked_free(const Backend& backend, const RunConfig& config, DType activations) {
  const auto free = backend.memory->available();
  Arena measure = Arena::measuring();
  const auto tree = model::make_parameters(config.model, measure, {});
  std::size_t needed = 4 * measure.peak();
  for (const auto& [spec, t] : model::list(tree, config.model)) {
    const bool copied = activations == DType::bf16 && spec.role != nn::ParameterRole::precise;
    if (copied) needed += align_up(static_cast<std::size_t>(t.count()) * size_of(DType::bf16));
  }
  require(
      needed <= free,
      "training: parameters, gradients, moments and copies of this model need {} MiB, {} MiB are free: only "
      "a smaller model fits",
      needed >> 20, free >> 20);
  return free;
}

}  // namespace

Trainer::Trainer(const Backend& backend, const RunConfig& config)
    : backend_(backend),
      config_(config),
      activations_(activations_of(backend, config.precision)),
      free_(checked_free(backend, config, activations_)),
      parameters_(config.model, {}, backend.memory),
      gradients_(config.model, {}, backend.memory),
      first_(config.model, {}, backend.memory),
      second_(config.model, {}, backend.memory),
      parameter_list_(model::list(parameters_.tree(), config.model)),
      gradient_list_(model::list(gradients_.tree(), config.model)),
      first_list_(model::list(first_.tree(), config.model)),
      second_list_(model::list(second_.tree(), config.model)) {
  if (activations_ == DType::bf16) {
    compute_ = model::ComputeCopy(config.model, parameters_.tree(), backend.memory);
    compute_list_ = model::list(compute_.tree(), config.model);
  }
  std::vector<nn::ParameterSpec> specs;
  for (const auto& parameter : parameter_list_) specs.push_back(parameter.spec);
  check_no_decay(config.optimizer, specs);
  const auto length = config.data.sequence_length;
  Arena measure = Arena::measuring(), unused = Arena::measuring();
  Context dry = backend.measuring_context(unused);
  policy_ = model::make_policy(dry, measure, config.model, length, activations_);
  policy_buffer_ = Buffer(measure.peak(), backend.memory);
  const auto make_results = [&](Arena& arena) {
    for (Tensor* t : {&norm_, &clip_}) *t = arena.make(DType::f32, {2});
    tally_ = arena.make(DType::f64, {ops::kTallyElements});
    const Shape tokens{config.batch_size * length};
    losses_ = {arena.make(DType::f32, tokens), arena.make(DType::f32, tokens)};
  };
  Arena results = Arena::measuring();
  make_results(results);
  results_buffer_ = Buffer(results.peak(), backend.memory);
  Arena results_arena(results_buffer_);
  make_results(results_arena);
  inputs_buffer_ = Buffer(StepInputs::most_bytes(config.batch_size, length), backend.memory);
  const auto& o = config.optimizer;
  update_options_ = {.beta1 = o.beta1, .beta2 = o.beta2, .epsilon = o.epsilon};
  for (std::size_t i = 0; i < parameter_list_.size(); ++i) {
    const auto& [spec, parameter] = parameter_list_[i];
    const bool copied = activations_ == DType::bf16 && spec.role != nn::ParameterRole::precise;
    update_parts_.push_back({.parameters = parameter,
                             .first_moment = first_list_[i].tensor,
                             .second_moment = second_list_[i].tensor,
                             .gradients = gradient_list_[i].tensor,
                             .copy = copied ? compute_list_[i].tensor : Tensor{},
                             .weight_decay = decays(o, spec) ? o.weight_decay : 0});
  }

  make_work_memory();
  Arena policy_arena(policy_buffer_), scratch(nullptr, 0, backend.device);
  Context ctx = backend.context(scratch);
  policy_ = model::make_policy(ctx, policy_arena, config.model, length, activations_);
  if (config.optimizer.kind == OptimizerKind::skip_step_adamw) skip_step_.emplace(config.optimizer.skip);
  saturated_ = backend.numerical_events().saturated;
}

void Trainer::largest_work(Context& ctx, Arena& step, const PartShape& largest, const model::KeepPlan& keep) {
  const auto batch = largest.dry();
  Arena others = Arena::measuring();
  const model::TokenLosses losses{others.make(DType::f32, batch.ids.shape),
                                  others.make(DType::f32, batch.ids.shape)};
  const Tensor scale = others.make(DType::f64, {1}), rates = others.make(DType::f64, {3});
  model::loss_and_gradients(ctx, step, losses, gradients_.tree(), weights(), policy_, batch,
                            {.scale = scale, .keep = keep});
  model::score(ctx, step, losses, weights(), policy_, batch);
  ops::gradient_norm(ctx, norm_, gradients_.flat(), 1);
  ops::tally_step(ctx, tally_, clip_, {losses_.loss, losses_.log_sum_exp}, norm_, scale);
  ops::adamw(ctx, update_parts_, clip_, rates, update_options_);
}

PartShape Trainer::largest_part(const WorkShape& shape) const {
  return {.tokens = shape.micro_batch * shape.length,
          .segments = shape.micro_batch,
          .longest = shape.length,
          .weighted = config_.objective == ObjectiveKind::dpo};
}

std::size_t Trainer::work_bytes(const WorkShape& shape, const model::KeepPlan& keep) {
  Arena step = Arena::measuring(), scratch = Arena::measuring();
  Context ctx = backend_.measuring_context(scratch);
  largest_work(ctx, step, largest_part(shape), keep);
  return align_up(step.peak()) + align_up(scratch.peak());
}

void Trainer::make_work_memory() {
  keep_ = choose_keep_plan(config_, backend_.memory->available(),
                           [&](const WorkShape& w, const model::KeepPlan& k) { return work_bytes(w, k); });
  const auto largest = largest_part({config_.micro_batch_size, config_.data.sequence_length});
  work_ = model::WorkMemory(backend_,
                            [&](Context& ctx, Arena& step) { largest_work(ctx, step, largest, keep_); });
  planned_ = {largest};
}

std::int64_t Trainer::largest_micro_batch(std::int64_t limit) {
  const auto available = backend_.memory->available();
  const auto room =
      available == SIZE_MAX ? available : available + work_.step_bytes() + work_.scratch_bytes();
  return train::largest_micro_batch(
      config_, room,
      [&](const WorkShape& w, const model::KeepPlan& k) {
        // The tables here are those of a batch of one.
        const auto losses = static_cast<std::size_t>(2 * 4 * w.micro_batch * w.length);
        return work_bytes(w, k) + losses + StepInputs::most_bytes(w.micro_batch, w.length);
      },
      limit);
}

// With document masking the segments vary, and with them what some ops need. What was recorded goes where the
// memory moves.
StepInputs Trainer::take(const data::Batch& batch, const StepNumbers& numbers) {
  Arena arena(inputs_buffer_), none(nullptr, 0, backend_.device);
  const Context ctx = backend_.context(none);
  StepInputs inputs(ctx, arena, batch, config_.micro_batch_size, numbers);
  for (const auto& shape : inputs.shapes()) {
    if (!planned_.insert(shape).second) continue;
    const bool moved =
        work_.grow(backend_, [&](Context& dry, Arena& step) { largest_work(dry, step, shape, keep_); });
    if (moved) repeated_.clear();
  }
  return inputs;
}

MemoryPlan Trainer::memory_plan() const {
  MemoryPlan plan{.parameters = parameters_.bytes(),
                  .gradients = gradients_.bytes(),
                  .moments = first_.bytes() + second_.bytes(),
                  .copies = compute_.bytes(),
                  .tables = policy_buffer_.bytes() + results_buffer_.bytes() + inputs_buffer_.bytes(),
                  .activations = work_.step_bytes(),
                  .scratch = work_.scratch_bytes(),
                  .free = free_};
  for (std::size_t i = 0; i < config_.model.layers.size(); ++i) {
    ++plan.blocks[static_cast<std::size_t>(keep_.of(i))];
  }
  return plan;
}

model::TokenLosses Trainer::losses_of(const StepInputs& inputs, std::size_t part) const {
  const auto token = inputs.first_token(part), tokens = inputs.shapes()[part].tokens;
  return {rows_of(losses_.loss, token, tokens), rows_of(losses_.log_sum_exp, token, tokens)};
}

void Trainer::parameters_changed() {
  work_.run(backend_, [&](Context& ctx, Arena&) {
    for (std::size_t i = 0; i < compute_list_.size(); ++i) {
      if (compute_list_[i].spec.role != nn::ParameterRole::precise) {
        ops::copy(ctx, compute_list_[i].tensor, parameter_list_[i].tensor);
      }
    }
  });
}

std::uint64_t Trainer::newly_saturated() {
  const auto before = std::exchange(saturated_, backend_.numerical_events().saturated);
  return saturated_ - before;
}

void Trainer::sum_gradients(const StepInputs& inputs) {
  work_.run(backend_, [&](Context& ctx, Arena&) { ops::fill(ctx, gradients_.flat(), 0); });
  for (std::size_t part = 0; part < inputs.shapes().size(); ++part) {
    work_.run(backend_, [&](Context& ctx, Arena& step) {
      model::loss_and_gradients(ctx, step, losses_of(inputs, part), gradients_.tree(), weights(), policy_,
                                inputs.part(part),
                                {.scale = inputs.scale(), .z_loss = config_.optimizer.z_loss, .keep = keep_});
    });
  }
  work_.run(backend_, [&](Context& ctx, Arena&) {
    ops::gradient_norm(ctx, norm_, gradients_.flat(), config_.optimizer.max_gradient_norm);
    ops::tally_step(
        ctx, tally_, clip_,
        {rows_of(losses_.loss, 0, inputs.tokens()), rows_of(losses_.log_sum_exp, 0, inputs.tokens())}, norm_,
        inputs.scale());
  });
}

void Trainer::update(const StepInputs& inputs) {
  work_.run(backend_, [&](Context& ctx, Arena&) {
    ops::adamw(ctx, update_parts_, clip_, inputs.rates(), update_options_);
  });
}

StepTally Trainer::tally() const {
  const auto t = to_host<double>(*backend_.memory, tally_);
  return {.loss = t[ops::kTallyLoss],
          .z_loss = t[ops::kTallyZLoss],
          .gradient_norm = t[ops::kTallyGradientNorm],
          .loss_sum = t[ops::kTallyLossSum],
          .steps = static_cast<std::int64_t>(t[ops::kTallySteps]),
          .failed_step = static_cast<std::int64_t>(t[ops::kTallyFailedStep])};
}

void Trainer::set_tally(const StepTally& tally) {
  std::array<double, ops::kTallyElements> t{};
  t[ops::kTallyLoss] = tally.loss;
  t[ops::kTallyZLoss] = tally.z_loss;
  t[ops::kTallyGradientNorm] = tally.gradient_norm;
  t[ops::kTallyLossSum] = tally.loss_sum;
  t[ops::kTallySteps] = static_cast<double>(tally.steps);
  t[ops::kTallyFailedStep] = static_cast<double>(tally.failed_step);
  backend_.memory->write(tally_.mutable_data(), t.data(), sizeof(t));
}

// With plain AdamW nothing is read back: the device works through the whole step, and the update leaves
// everything as it was where something is not finite. SkipStep decides on the host, so that the device waits
// once in between.
double Trainer::train_on(const data::Batch& batch, std::int64_t step) {
  const auto rates = ops::AdamWRates::of(learning_rate(config_.schedule, step, config_.steps), updates_ + 1,
                                         update_options_);
  const auto predicted = static_cast<double>(std::max<std::int64_t>(batch.predicted, 1));
  const auto inputs = take(batch, {1 / predicted, rates.learning_rate, rates.correction1, rates.correction2});
  constexpr std::size_t kMostRecordings = 64;  // with document masking hardly any two steps are alike
  if (repeated_.size() >= kMostRecordings && !repeated_.contains(inputs.shapes())) repeated_.clear();
  auto& repeated = repeated_[inputs.shapes()];
  repeated.gradients.run(backend_, [&] {
    sum_gradients(inputs);
    if (!skip_step_) update(inputs);
  });
  double factor = 1;
  if (skip_step_) {
    const auto now = tally();
    if (now.failed_step != 0) return 1;
    factor = skip_step_->factor(now.loss, now.gradient_norm);
    if (factor != 0) repeated.update.run(backend_, [&] { update(inputs); });
  }
  if (factor != 0) ++updates_;
  return factor;
}

void Trainer::require_batch(const data::Batch& batch, std::int64_t step) const {
  const auto expected = instances_in(config_, step);
  require(batch.instances == expected && batch.sequence_length <= config_.data.sequence_length,
          "trainer: the batch has {} sequences of {}, step {} trains {} of at most {}", batch.instances,
          batch.sequence_length, step, expected, config_.data.sequence_length);
}

void Trainer::enqueue(const data::Batch& batch, std::int64_t step) {
  require_batch(batch, step);
  if (!skips(config_, step)) train_on(batch, step);
}

StepResult Trainer::step(const data::Batch& batch, std::int64_t step) {
  require_batch(batch, step);
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  StepResult result{.loss = kNone,
                    .z_loss = kNone,
                    .gradient_norm = kNone,
                    .learning_rate = learning_rate(config_.schedule, step, config_.steps)};
  if (skips(config_, step)) {
    result.step_factor = 0;
  } else {
    const auto updates = updates_;
    result.step_factor = train_on(batch, step);
    const auto now = tally();
    if (now.failed_step != 0) {
      updates_ = updates;
      fail_step(batch, step);
    }
    stability_.add(now.loss, now.gradient_norm);
    result.loss = now.loss;
    result.z_loss = now.z_loss;
    result.gradient_norm = now.gradient_norm;
  }
  result.skipped = result.step_factor == 0;
  result.loss_spikes = stability_.loss_spikes();
  result.gradient_norm_spikes = stability_.gradient_norm_spikes();
  result.saturated = newly_saturated();
  return result;
}

TrainerState Trainer::state() const {
  TrainerState s{.updates = updates_, .stability = stability_.state()};
  if (skip_step_) {
    s.losses = skip_step_->losses();
    s.gradient_norms = skip_step_->gradient_norms();
  }
  return s;
}

void Trainer::restore(const TrainerState& s) {
  updates_ = s.updates;
  stability_.restore(s.stability);
  if (skip_step_) skip_step_->restore(s.losses, s.gradient_norms);
}

std::vector<float> Trainer::token_losses(const data::Batch& batch) {
  require(batch.instances <= config_.batch_size, "trainer: {} sequences to score, at most {} fit",
          batch.instances, config_.batch_size);
  score_into(take(batch, {}));
  return to_host<float>(*backend_.memory,
                        rows_of(losses_.loss, 0, static_cast<std::int64_t>(batch.ids.size())));
}

void Trainer::score_into(const StepInputs& inputs) {
  for (std::size_t part = 0; part < inputs.shapes().size(); ++part) {
    work_.run(backend_, [&](Context& ctx, Arena& step) {
      model::score(ctx, step, losses_of(inputs, part), weights(), policy_, inputs.part(part));
    });
  }
}

ScoreResult Trainer::score(const data::Batch& batch) {
  const auto inputs = take(batch, {});
  score_into(inputs);
  model::LossSums sums;
  for (std::size_t part = 0; part < inputs.shapes().size(); ++part) {
    sums.loss += model::sum_losses(*backend_.memory, losses_of(inputs, part)).loss;
  }
  return {sums.loss, newly_saturated()};
}

}  // namespace braid::train
