#include "braid/train/trainer.h"

#include <algorithm>
#include <cmath>

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

}  // namespace

// Views of the host arrays of one micro-batch.
struct Trainer::Micro {
  std::span<const std::int32_t> ids, targets, positions;
  std::vector<std::int32_t> offsets;

  static Micro of(const data::Batch& b, std::int64_t first_token, std::int64_t tokens) {
    const auto part = [&](const std::vector<std::int32_t>& v) {
      return std::span(v).subspan(static_cast<std::size_t>(first_token), static_cast<std::size_t>(tokens));
    };
    Micro m{part(b.ids), part(b.targets), part(b.positions), {}};
    for (const auto offset : b.segment_offsets) {
      if (offset >= first_token && offset <= first_token + tokens) {
        m.offsets.push_back(static_cast<std::int32_t>(offset - first_token));
      }
    }
    return m;
  }
  model::HostBatch host() const { return {ids, targets, positions, offsets}; }
};

Trainer::Trainer(const Backend& backend, const RunConfig& config)
    : backend_(backend),
      config_(config),
      activations_(activations_of(backend, config.precision)),
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
  const auto length = config.data.sequence_length;
  Arena measure = Arena::measuring(), unused = Arena::measuring();
  Context dry = backend.measuring_context(unused);
  policy_ = model::make_policy(dry, measure, config.model, length, activations_);
  policy_buffer_ = Buffer(measure.peak(), backend.memory);
  const auto make_results = [&](Arena& arena) {
    norm_ = arena.make(DType::f32, {2});
    const Shape tokens{config.batch_size * length};
    losses_ = {arena.make(DType::f32, tokens), arena.make(DType::f32, tokens)};
  };
  Arena results = Arena::measuring();
  make_results(results);
  results_buffer_ = Buffer(results.peak(), backend.memory);
  Arena results_arena(results_buffer_);
  make_results(results_arena);

  const auto layout = model::RowLayout::of(config.micro_batch_size, length);
  const std::vector<std::int32_t> zeros(layout.positions.size(), 0);
  choose_plan({zeros, zeros, layout.positions, layout.offsets});
  Arena policy_arena(policy_buffer_), scratch(nullptr, 0, backend.device);
  Context ctx = backend.context(scratch);
  policy_ = model::make_policy(ctx, policy_arena, config.model, length, activations_);
}

// Whatever runs in the step's memory, with the largest shapes.
void Trainer::largest_work(Context& ctx, Arena& step, const model::HostBatch& largest) {
  const auto batch = largest.upload(ctx, step);
  const auto losses = losses_at(0, batch.ids.shape[0]);
  model::loss_and_gradients(ctx, step, losses, gradients_.tree(), weights(), policy_, batch, loss_options());
  model::score(ctx, step, losses, weights(), policy_, batch);
  ops::gradient_norm(ctx, norm_, gradients_.flat(), 1);
  ops::adamw(ctx, {parameters_.flat(), first_.flat(), second_.flat()}, gradients_.flat(), norm_, {});
}

model::LossOptions Trainer::loss_options() const {
  return {.recompute = config_.recompute, .kept_blocks = kept_blocks_};
}

std::size_t Trainer::work_bytes(const model::HostBatch& largest) {
  Arena step = Arena::measuring(), scratch = Arena::measuring();
  Context ctx = backend_.measuring_context(scratch);
  largest_work(ctx, step, largest);
  return align_up(step.peak()) + align_up(scratch.peak());
}

// Settles how many blocks keep their activations, and makes the step's memory.
void Trainer::choose_plan(const model::HostBatch& largest) {
  const auto available = backend_.memory->available();
  const auto blocks = static_cast<std::int64_t>(config_.model.layers.size());
  kept_blocks_ = std::min(config_.kept_blocks, blocks);
  if (config_.recompute == model::Recompute::block && config_.kept_blocks == kAsManyAsFit) {
    for (kept_blocks_ = blocks; kept_blocks_ > 0 && work_bytes(largest) > available;) --kept_blocks_;
  }
  const auto needed = work_bytes(largest);
  require(needed <= available,
          "training: a step needs {} MiB beside the parameters, {} MiB are free: lower "
          "train.micro_batch_size (now "
          "{}){}",
          needed >> 20, available >> 20, config_.micro_batch_size,
          config_.recompute == model::Recompute::none ? ", or set train.recompute = \"auto\"" : "");
  work_ = model::WorkMemory(backend_, [&](Context& ctx, Arena& step) { largest_work(ctx, step, largest); });
  planned_offsets_.assign(largest.offsets.begin(), largest.offsets.end());
}

// With document masking the segments vary, and with them what some ops need.
void Trainer::ensure_planned(const Micro& micro) {
  if (micro.offsets == planned_offsets_) return;
  work_.grow(backend_, [&](Context& ctx, Arena& step) { largest_work(ctx, step, micro.host()); });
  planned_offsets_ = micro.offsets;
}

std::size_t Trainer::planned_bytes() const {
  return 4 * parameters_.bytes() + compute_.bytes() + policy_buffer_.bytes() + results_buffer_.bytes() +
         work_.step_bytes() + work_.scratch_bytes();
}

model::TokenLosses Trainer::losses_at(std::int64_t token, std::int64_t tokens) const {
  return {rows_of(losses_.loss, token, tokens), rows_of(losses_.log_sum_exp, token, tokens)};
}

void Trainer::accumulate(const Micro& micro, const model::TokenLosses& losses, double scale) {
  ensure_planned(micro);
  work_.run(backend_, [&](Context& ctx, Arena& step) {
    model::loss_and_gradients(ctx, step, losses, gradients_.tree(), weights(), policy_,
                              micro.host().upload(ctx, step),
                              {.scale = scale,
                               .z_loss = config_.optimizer.z_loss,
                               .recompute = config_.recompute,
                               .kept_blocks = kept_blocks_});
  });
}

void Trainer::update(std::int64_t step, double rate) {
  const auto& o = config_.optimizer;
  work_.run(backend_, [&](Context& ctx, Arena&) {
    ops::gradient_norm(ctx, norm_, gradients_.flat(), o.max_gradient_norm);
    for (std::size_t i = 0; i < parameter_list_.size(); ++i) {
      const auto& [spec, parameter] = parameter_list_[i];
      const bool embedding = spec.role == nn::ParameterRole::embedding;
      const bool copied = activations_ == DType::bf16 && spec.role != nn::ParameterRole::precise;
      ops::adamw(ctx,
                 {.parameters = parameter,
                  .first_moment = first_list_[i].tensor,
                  .second_moment = second_list_[i].tensor,
                  .copy = copied ? compute_list_[i].tensor : Tensor{}},
                 gradient_list_[i].tensor, norm_,
                 {.learning_rate = rate,
                  .beta1 = o.beta1,
                  .beta2 = o.beta2,
                  .epsilon = o.epsilon,
                  .weight_decay = embedding ? 0 : o.weight_decay,
                  .step = step});
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

// Nothing is read back before the end: the device works through the whole step. The update leaves everything
// as it was where the gradients are not finite.
StepResult Trainer::step(const data::Batch& batch, std::int64_t step) {
  const auto length = batch.sequence_length, micro = config_.micro_batch_size;
  require(batch.instances == config_.batch_size && length == config_.data.sequence_length,
          "trainer: the batch has {} sequences of {}, the run trains {} of {}", batch.instances, length,
          config_.batch_size, config_.data.sequence_length);
  work_.run(backend_, [&](Context& ctx, Arena&) { ops::fill(ctx, gradients_.flat(), 0); });
  const auto predicted = static_cast<double>(batch.predicted());
  for (std::int64_t first = 0; first < batch.instances; first += micro) {
    const auto token = first * length, tokens = micro * length;
    accumulate(Micro::of(batch, token, tokens), losses_at(token, tokens), 1 / predicted);
  }
  const double rate = learning_rate(config_.schedule, step, config_.steps);
  update(step, rate);
  const LossSums sums = model::sum_losses(*backend_.memory, losses_);
  const StepResult result{.loss = sums.loss / predicted,
                          .z_loss = sums.squared_log_sum_exp / predicted,
                          .gradient_norm = to_host<float>(*backend_.memory, norm_)[0],
                          .learning_rate = rate};
  require(std::isfinite(result.loss) && std::isfinite(result.gradient_norm),
          "step {}: loss {} with gradient norm {} is not finite; lower schedule.learning_rate or look at the "
          "data",
          step, result.loss, result.gradient_norm);
  return result;
}

LossSums Trainer::score(const data::Batch& batch) {
  const auto tokens = static_cast<std::int64_t>(batch.ids.size());
  const Micro micro = Micro::of(batch, 0, tokens);
  ensure_planned(micro);
  const auto losses = losses_at(0, tokens);
  work_.run(backend_, [&](Context& ctx, Arena& step) {
    model::score(ctx, step, losses, weights(), policy_, micro.host().upload(ctx, step));
  });
  return model::sum_losses(*backend_.memory, losses);
}

}  // namespace braid::train
