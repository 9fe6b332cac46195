#include "braid/lab/experiment/predictor.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "braid/model/host_batch.h"

namespace braid::lab {

void Predictor::make_policy(std::int64_t positions) {
  if (positions <= positions_) return;
  positions_ = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(positions)));
  Arena measure = Arena::measuring(), unused = Arena::measuring();
  Context dry = backend_.measuring_context(unused);
  policy_ = model::make_policy(dry, measure, config_, positions_, activations_);
  policy_buffer_ = {};
  policy_buffer_ = Buffer(measure.peak(), backend_.memory);
  Arena arena(policy_buffer_), scratch(nullptr, 0, backend_.device);
  Context ctx = backend_.context(scratch);
  policy_ = model::make_policy(ctx, arena, config_, positions_, activations_);
}

std::vector<std::int32_t> Predictor::predict(const model::Parameters& weights, const data::Batch& batch,
                                             std::span<const std::int32_t> rows, std::int64_t vocabulary) {
  make_policy(std::max<std::int64_t>(std::ranges::max(batch.positions) + 1, batch.longest_segment));
  const model::HostBatch host{.ids = batch.ids,
                              .targets = {},
                              .positions = batch.positions,
                              .offsets = batch.segment_offsets,
                              .longest = batch.longest_segment};
  const auto tokens = std::ssize(batch.ids), wanted = std::ssize(rows), words = config_.vocabulary_size;
  std::vector<float> logits(static_cast<std::size_t>(wanted * words));
  const auto run = [&](Context& ctx, Arena& step) {
    const Tensor some = step.make(DType::f32, {wanted, words});
    model::compute_logits(ctx, step, some, weights, policy_, host.upload(ctx, step),
                          model::upload(ctx, step, rows));
    if (ctx.memory != nullptr) ctx.memory->read(logits.data(), some.data, some.bytes());
  };
  if (planned_.insert({tokens, std::ssize(batch.segment_offsets), batch.longest_segment, wanted}).second) {
    work_.grow(backend_, run);
  }
  work_.run(backend_, run);
  std::vector<std::int32_t> out;
  for (std::int64_t row = 0; row < wanted; ++row) {
    const auto* first = logits.data() + row * words;
    const std::span values(first, static_cast<std::size_t>(vocabulary));
    const bool broken = std::ranges::any_of(values, [](float v) { return std::isnan(v); });
    out.push_back(broken ? -1 : static_cast<std::int32_t>(std::ranges::max_element(values) - values.begin()));
  }
  return out;
}

}  // namespace braid::lab
