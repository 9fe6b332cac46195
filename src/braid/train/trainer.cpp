#include "braid/train/trainer.h"

#include <algorithm>
#include <cmath>

#include "braid/ops/elementwise.h"
#include "braid/ops/optimizer.h"

namespace braid::train {
namespace {

using model::ParameterSet;

LossSums sum_losses(const model::TokenLosses& losses) {
  LossSums sum;
  const float* loss = losses.loss.as<float>();
  const float* lse = losses.log_sum_exp.as<float>();
  for (std::int64_t i = 0; i < losses.loss.count(); ++i) {
    sum.loss += loss[i];
    sum.squared_log_sum_exp += static_cast<double>(lse[i]) * lse[i];
  }
  return sum;
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
  model::Batch upload(Arena& arena) const {
    return {model::upload(arena, ids),
            model::upload(arena, targets),
            {{model::upload(arena, offsets)}, model::upload(arena, positions)}};
  }
};

Trainer::Trainer(const Backend& backend, const RunConfig& config)
    : backend_(backend),
      config_(config),
      parameters_(config.model, {}),
      gradients_(config.model, {}),
      first_(config.model, {}),
      second_(config.model, {}),
      parameter_list_(model::list(parameters_.tree(), config.model)),
      gradient_list_(model::list(gradients_.tree(), config.model)),
      first_list_(model::list(first_.tree(), config.model)),
      second_list_(model::list(second_.tree(), config.model)) {
  const auto length = config.data.sequence_length;
  Arena measure = Arena::measuring(), unused = Arena::measuring();
  Context dry = backend.measuring_context(unused);
  policy_ = model::make_policy(dry, measure, config.model, length, DType::f32);
  policy_buffer_ = Buffer(measure.peak());
  norm_buffer_ = Buffer(kAlignment);
  Arena norm_arena(norm_buffer_);
  norm_ = norm_arena.make(DType::f32, {2});

  plan(config.micro_batch_size);
  Arena policy_arena(policy_buffer_), scratch(nullptr, 0, Device::cpu);
  Context ctx = backend.context(scratch);
  policy_ = model::make_policy(ctx, policy_arena, config.model, length, DType::f32);
}

// Sizes the step's memory for a micro-batch of that many segments. With document masking their number varies:
// a batch with more than were planned for plans again.
void Trainer::plan(std::int64_t segments) {
  const auto tokens = static_cast<std::size_t>(config_.micro_batch_size * config_.data.sequence_length);
  const std::vector<std::int32_t> zeros(tokens, 0);
  const Micro largest{zeros, zeros, zeros, std::vector<std::int32_t>(static_cast<std::size_t>(segments) + 1)};
  work_ = model::WorkMemory(backend_, [&](Context& ctx, Arena& step) {
    const auto batch = largest.upload(step);
    const model::TokenLosses losses{step.make(DType::f32, batch.ids.shape),
                                    step.make(DType::f32, batch.ids.shape)};
    model::loss_and_gradients(ctx, step, losses, gradients_.tree(), parameters_.tree(), policy_, batch,
                              {.recompute = config_.recompute});
    model::score(ctx, step, losses, parameters_.tree(), policy_, batch);
    ops::gradient_norm(ctx, norm_, gradients_.flat(), 1);
    ops::adamw(ctx, {parameters_.flat(), first_.flat(), second_.flat()}, gradients_.flat(), norm_, {});
  });
  planned_segments_ = segments;
}

std::size_t Trainer::planned_bytes() const {
  return 4 * parameters_.bytes() + policy_buffer_.bytes() + work_.step_bytes() + work_.scratch_bytes();
}

LossSums Trainer::accumulate(const Micro& micro, double scale) {
  const auto segments = static_cast<std::int64_t>(micro.offsets.size()) - 1;
  if (segments > planned_segments_) plan(segments);
  LossSums sums;
  work_.run(backend_, [&](Context& ctx, Arena& step) {
    const auto batch = micro.upload(step);
    const model::TokenLosses losses{step.make(DType::f32, batch.ids.shape),
                                    step.make(DType::f32, batch.ids.shape)};
    model::loss_and_gradients(
        ctx, step, losses, gradients_.tree(), parameters_.tree(), policy_, batch,
        {.scale = scale, .z_loss = config_.optimizer.z_loss, .recompute = config_.recompute});
    sums = sum_losses(losses);
  });
  return sums;
}

void Trainer::update(std::int64_t step, double rate) {
  const auto& o = config_.optimizer;
  work_.run(backend_, [&](Context& ctx, Arena&) {
    for (std::size_t i = 0; i < parameter_list_.size(); ++i) {
      const bool embedding = parameter_list_[i].spec.role == nn::ParameterRole::embedding;
      ops::adamw(ctx, {parameter_list_[i].tensor, first_list_[i].tensor, second_list_[i].tensor},
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

StepResult Trainer::step(const data::Batch& batch, std::int64_t step) {
  const auto length = batch.sequence_length, micro = config_.micro_batch_size;
  require(batch.instances == config_.batch_size && length == config_.data.sequence_length,
          "trainer: the batch has {} sequences of {}, the run trains {} of {}", batch.instances, length,
          config_.batch_size, config_.data.sequence_length);
  work_.run(backend_, [&](Context& ctx, Arena&) { ops::fill(ctx, gradients_.flat(), 0); });
  const auto predicted = static_cast<double>(batch.predicted());
  LossSums sums;
  for (std::int64_t first = 0; first < batch.instances; first += micro) {
    const auto part = accumulate(Micro::of(batch, first * length, micro * length), 1 / predicted);
    sums.loss += part.loss;
    sums.squared_log_sum_exp += part.squared_log_sum_exp;
  }
  work_.run(backend_, [&](Context& ctx, Arena&) {
    ops::gradient_norm(ctx, norm_, gradients_.flat(), config_.optimizer.max_gradient_norm);
  });
  const StepResult result{.loss = sums.loss / predicted,
                          .z_loss = sums.squared_log_sum_exp / predicted,
                          .gradient_norm = norm_.as<float>()[0],
                          .learning_rate = learning_rate(config_.schedule, step, config_.steps)};
  require(std::isfinite(result.loss) && std::isfinite(result.gradient_norm),
          "step {}: loss {} with gradient norm {} is not finite; lower schedule.learning_rate or look at the "
          "data",
          step, result.loss, result.gradient_norm);
  update(step, result.learning_rate);
  return result;
}

LossSums Trainer::score(const data::Batch& batch) {
  LossSums sums;
  const Micro micro = Micro::of(batch, 0, static_cast<std::int64_t>(batch.ids.size()));
  const auto segments = static_cast<std::int64_t>(micro.offsets.size()) - 1;
  if (segments > planned_segments_) plan(segments);
  work_.run(backend_, [&](Context& ctx, Arena& step) {
    const auto inputs = micro.upload(step);
    const model::TokenLosses losses{step.make(DType::f32, inputs.ids.shape),
                                    step.make(DType::f32, inputs.ids.shape)};
    model::score(ctx, step, losses, parameters_.tree(), policy_, inputs);
    sums = sum_losses(losses);
  });
  return sums;
}

}  // namespace braid::train
