#include "braid/train/step_inputs.h"

#include <algorithm>

namespace braid::train {

model::Batch PartShape::dry() const {
  Arena none = Arena::measuring();
  const auto make = [&](DType dtype, std::int64_t count) { return none.make(dtype, {count}); };
  model::Batch batch{make(DType::i32, tokens),
                     make(DType::i32, tokens),
                     {{make(DType::i32, segments + 1), longest}, make(DType::i32, tokens)}};
  if (weighted) batch.weights = make(DType::f32, tokens);
  return batch;
}

StepInputs::StepInputs(const Context& ctx, Arena& arena, const data::Batch& batch, std::int64_t rows,
                       const StepNumbers& numbers) {
  std::vector<std::int32_t> offsets;  // of each part, counted from its first token
  const auto& all = batch.segment_offsets;
  auto at = all.begin();
  for (std::int64_t row = 0; row < batch.instances; row += rows) {
    const auto first = row * batch.sequence_length;
    const auto end = std::min(row + rows, batch.instances) * batch.sequence_length;
    first_.push_back(first);
    first_offset_.push_back(std::ssize(offsets));
    std::int64_t longest = 0;
    offsets.push_back(0);
    for (++at; at != all.end() && *at <= end; ++at) {
      offsets.push_back(static_cast<std::int32_t>(*at - first));
      longest = std::max<std::int64_t>(longest, offsets.back() - *(offsets.end() - 2));
    }
    --at;  // its end is where the next part begins
    shapes_.push_back({.tokens = end - first,
                       .segments = std::ssize(offsets) - first_offset_.back() - 1,
                       .longest = batch.longest_segment != 0 ? batch.longest_segment : longest,
                       .weighted = !batch.weights.empty()});
  }
  const auto [ids, targets, positions, weights, bounds, values] =
      model::upload_together(ctx, arena, batch.ids, batch.targets, batch.positions, batch.weights, offsets,
                             std::vector<double>(numbers.begin(), numbers.end()));
  all_ = {ids, targets, {{}, positions}};
  if (!batch.weights.empty()) all_.weights = weights;
  offsets_ = bounds;
  numbers_ = values;
}

std::size_t StepInputs::most_bytes(std::int64_t instances, std::int64_t length) {
  constexpr std::int64_t kWords = 5, kBoundaries = 128;  // per token; and what begins on boundaries
  return align_up(static_cast<std::size_t>(4 * kWords * instances * length + 4 * instances + kBoundaries));
}

model::Batch StepInputs::part(std::size_t part) const {
  const auto& shape = shapes_[part];
  const auto cut = [&](const ConstTensor& t) { return rows_of(t, first_[part], shape.tokens); };
  model::Batch batch{cut(all_.ids),
                     cut(all_.targets),
                     {{rows_of(offsets_, first_offset_[part], shape.segments + 1), shape.longest},
                      cut(all_.tokens.positions)}};
  if (all_.weights.defined()) batch.weights = cut(all_.weights);
  return batch;
}

}  // namespace braid::train
