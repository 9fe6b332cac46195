#include "braid/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "braid/ops/elementwise.h"
#include "braid/ops/optimizer.h"

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
    for (Tensor* t : {&norm_, &guard_, &minus_one_, &clip_}) *t = arena.make(DType::f32, {2});
    const Shape tokens{config.batch_size * length};
    losses_ = {arena.make(DType::f32, tokens), arena.make(DType::f32, tokens)};
  };
  Arena results = Arena::measuring();
  make_results(results);
  results_buffer_ = Buffer(results.peak(), backend.memory);
  Arena results_arena(results_buffer_);
  make_results(results_arena);

  make_work_memory();
  Arena policy_arena(policy_buffer_), scratch(nullptr, 0, backend.device);
  Context ctx = backend.context(scratch);
  policy_ = model::make_policy(ctx, policy_arena, config.model, length, activations_);
  ops::fill(ctx, minus_one_, -1);
  if (config.optimizer.kind == OptimizerKind::skip_step_adamw) skip_step_.emplace(config.optimizer.skip);
  saturated_ = backend.numerical_events().saturated;
}

void Trainer::largest_work(Context& ctx, Arena& step, const model::HostBatch& largest,
                           const model::KeepPlan& keep) {
  const auto batch = largest.upload(ctx, step);
  Arena results = Arena::measuring();
  const model::TokenLosses losses{results.make(DType::f32, batch.ids.shape),
                                  results.make(DType::f32, batch.ids.shape)};
  model::loss_and_gradients(ctx, step, losses, gradients_.tree(), weights(), policy_, batch, {.keep = keep});
  model::score(ctx, step, losses, weights(), policy_, batch);
  ops::gradient_norm(ctx, norm_, gradients_.flat(), 1);
  ops::gradient_norm(ctx, guard_, losses_.loss, 0);
  ops::adamw(ctx, {parameters_.flat(), first_.flat(), second_.flat()}, gradients_.flat(), norm_, {});
}

std::size_t Trainer::work_bytes(const WorkShape& shape, const model::KeepPlan& keep) {
  const auto layout = model::RowLayout::of(shape.micro_batch, shape.length);
  const std::vector<std::int32_t> zeros(layout.positions.size(), 0);
  const std::vector<float> weights(config_.objective == ObjectiveKind::dpo ? zeros.size() : 0);
  Arena step = Arena::measuring(), scratch = Arena::measuring();
  Context ctx = backend_.measuring_context(scratch);
  largest_work(ctx, step, {zeros, zeros, layout.positions, layout.offsets, weights}, keep);
  return align_up(step.peak()) + align_up(scratch.peak());
}

void Trainer::make_work_memory() {
  keep_ = choose_keep_plan(config_, backend_.memory->available(),
                           [&](const WorkShape& w, const model::KeepPlan& k) { return work_bytes(w, k); });
  const auto layout = model::RowLayout::of(config_.micro_batch_size, config_.data.sequence_length);
  const std::vector<std::int32_t> zeros(layout.positions.size(), 0);
  const std::vector<float> weights(config_.objective == ObjectiveKind::dpo ? zeros.size() : 0);
  work_ = model::WorkMemory(backend_, [&](Context& ctx, Arena& step) {
    largest_work(ctx, step, {zeros, zeros, layout.positions, layout.offsets, weights}, keep_);
  });
  planned_offsets_.assign(layout.offsets.begin(), layout.offsets.end());
}

std::int64_t Trainer::largest_micro_batch(std::int64_t limit) {
  const auto available = backend_.memory->available();
  const auto room =
      available == SIZE_MAX ? available : available + work_.step_bytes() + work_.scratch_bytes();
  return train::largest_micro_batch(
      config_, room,
      [&](const WorkShape& w, const model::KeepPlan& k) {
        const auto losses = static_cast<std::size_t>(2 * 4 * w.micro_batch * w.length);  // of a batch of one
        return work_bytes(w, k) + losses;
      },
      limit);
}

// With document masking the segments vary, and with them what some ops need.
void Trainer::ensure_planned(const MicroBatch& micro) {
  if (micro.offsets == planned_offsets_) return;
  work_.grow(backend_, [&](Context& ctx, Arena& step) { largest_work(ctx, step, micro.host(), keep_); });
  planned_offsets_ = micro.offsets;
}

MemoryPlan Trainer::memory_plan() const {
  MemoryPlan plan{.parameters = parameters_.bytes(),
                  .gradients = gradients_.bytes(),
                  .moments = first_.bytes() + second_.bytes(),
                  .copies = compute_.bytes(),
                  .tables = policy_buffer_.bytes() + results_buffer_.bytes(),
                  .activations = work_.step_bytes(),
                  .scratch = work_.scratch_bytes(),
                  .free = free_};
  for (std::size_t i = 0; i < config_.model.layers.size(); ++i) {
    ++plan.blocks[static_cast<std::size_t>(keep_.of(i))];
  }
  return plan;
}

model::TokenLosses Trainer::losses_at(std::int64_t token, std::int64_t tokens) const {
  return {rows_of(losses_.loss, token, tokens), rows_of(losses_.log_sum_exp, token, tokens)};
}

void Trainer::accumulate(const MicroBatch& micro, const model::TokenLosses& losses, double scale) {
  ensure_planned(micro);
  work_.run(backend_, [&](Context& ctx, Arena& step) {
    model::loss_and_gradients(ctx, step, losses, gradients_.tree(), weights(), policy_,
                              micro.host().upload(ctx, step),
                              {.scale = scale, .z_loss = config_.optimizer.z_loss, .keep = keep_});
  });
}

// guard_ = [norm of the losses, 1], where they are finite. Adding [-1, -1] and norm_ leaves norm_[1] in
// clip_[1] as it is, or NaN, with which nothing is updated: no wait for the device is needed to know.
void Trainer::find_norm(const model::TokenLosses& losses) {
  work_.run(backend_, [&](Context& ctx, Arena&) {
    ops::gradient_norm(ctx, norm_, gradients_.flat(), config_.optimizer.max_gradient_norm);
    ops::gradient_norm(ctx, guard_, losses.loss, 0);
    ops::add(ctx, clip_, guard_, minus_one_);
    ops::add(ctx, clip_, clip_, norm_);
  });
}

Trainer::Measured Trainer::measure(const model::TokenLosses& losses, double predicted) const {
  auto& memory = *backend_.memory;
  const auto sums = model::sum_losses(memory, losses);
  Measured m{.loss = sums.loss / predicted,
             .z_loss = sums.squared_log_sum_exp / predicted,
             .gradient_norm = to_host<float>(memory, norm_)[0]};
  m.finite = std::isfinite(m.loss) && std::isfinite(m.gradient_norm) &&
             std::isfinite(to_host<float>(memory, clip_)[1]);
  return m;
}

void Trainer::update(double rate, std::int64_t update) {
  const auto& o = config_.optimizer;
  work_.run(backend_, [&](Context& ctx, Arena&) {
    for (std::size_t i = 0; i < parameter_list_.size(); ++i) {
      const auto& [spec, parameter] = parameter_list_[i];
      const bool copied = activations_ == DType::bf16 && spec.role != nn::ParameterRole::precise;
      ops::adamw(ctx,
                 {.parameters = parameter,
                  .first_moment = first_list_[i].tensor,
                  .second_moment = second_list_[i].tensor,
                  .copy = copied ? compute_list_[i].tensor : Tensor{}},
                 gradient_list_[i].tensor, clip_,
                 {.learning_rate = rate,
                  .beta1 = o.beta1,
                  .beta2 = o.beta2,
                  .epsilon = o.epsilon,
                  .weight_decay = decays(o, spec) ? o.weight_decay : 0,
                  .step = update});
    }
  });
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

void Trainer::sum_gradients(const data::Batch& batch, const model::TokenLosses& losses, double predicted) {
  const auto micro = config_.micro_batch_size, length = batch.sequence_length;
  work_.run(backend_, [&](Context& ctx, Arena&) { ops::fill(ctx, gradients_.flat(), 0); });
  for (std::int64_t first = 0; first < batch.instances; first += micro) {
    const auto token = first * length, tokens = micro * length;
    accumulate(MicroBatch::of(batch, token, tokens), losses_at(token, tokens), 1 / predicted);
  }
  find_norm(losses);
}

// With plain AdamW nothing is read back before the end: the device works through the whole step, and the
// update leaves everything as it was where something is not finite. SkipStep decides on the host, so that the
// device waits once in between.
void Trainer::train_on(const data::Batch& batch, std::int64_t step, StepResult& result) {
  const auto losses = losses_at(0, batch.instances * batch.sequence_length);
  const auto predicted = static_cast<double>(std::max<std::int64_t>(batch.predicted, 1));
  sum_gradients(batch, losses, predicted);
  Measured m;
  if (skip_step_) {
    m = measure(losses, predicted);
    if (!m.finite) stop(batch, step, m);
    result.step_factor = skip_step_->factor(m.loss, m.gradient_norm);
    if (result.step_factor != 0) update(result.learning_rate, updates_ + 1);
  } else {
    update(result.learning_rate, updates_ + 1);
    m = measure(losses, predicted);
    if (!m.finite) stop(batch, step, m);
  }
  if (result.step_factor != 0) ++updates_;
  stability_.add(m.loss, m.gradient_norm);
  result.loss = m.loss;
  result.z_loss = m.z_loss;
  result.gradient_norm = m.gradient_norm;
}

StepResult Trainer::step(const data::Batch& batch, std::int64_t step) {
  const auto expected = instances_in(config_, step);
  require(batch.instances == expected && batch.sequence_length <= config_.data.sequence_length,
          "trainer: the batch has {} sequences of {}, step {} trains {} of at most {}", batch.instances,
          batch.sequence_length, step, expected, config_.data.sequence_length);
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  StepResult result{.loss = kNone,
                    .z_loss = kNone,
                    .gradient_norm = kNone,
                    .learning_rate = learning_rate(config_.schedule, step, config_.steps)};
  if (skips(config_, step)) {
    result.step_factor = 0;
  } else {
    train_on(batch, step, result);
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
  for (std::int64_t first = 0; first < batch.instances; first += config_.micro_batch_size) {
    const auto rows = std::min(config_.micro_batch_size, batch.instances - first);
    const auto token = first * batch.sequence_length, tokens = rows * batch.sequence_length;
    score_into(MicroBatch::of(batch, token, tokens), losses_at(token, tokens));
  }
  const auto all = static_cast<std::int64_t>(batch.ids.size());
  return to_host<float>(*backend_.memory, losses_at(0, all).loss);
}

void Trainer::score_into(const MicroBatch& micro, const model::TokenLosses& losses) {
  ensure_planned(micro);
  work_.run(backend_, [&](Context& ctx, Arena& step) {
    model::score(ctx, step, losses, weights(), policy_, micro.host().upload(ctx, step));
  });
}

ScoreResult Trainer::score(const data::Batch& batch) {
  const auto tokens = static_cast<std::int64_t>(batch.ids.size());
  const auto losses = losses_at(0, tokens);
  score_into(MicroBatch::of(batch, 0, tokens), losses);
  return {model::sum_losses(*backend_.memory, losses).loss, newly_saturated()};
}

}  // namespace braid::train
