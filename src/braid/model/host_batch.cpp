#include "braid/model/host_batch.h"

#include <algorithm>

namespace braid::model {

namespace {

template <class T>
Tensor upload_values(const Context& ctx, Arena& arena, std::span<const T> values) {
  const Tensor t = arena.make(dtype_of<T>, {static_cast<std::int64_t>(values.size())});
  if (t.data != nullptr) ctx.memory->write(t.mutable_data(), values.data(), values.size_bytes());
  return t;
}

}  // namespace

Tensor upload(const Context& ctx, Arena& arena, std::span<const std::int32_t> values) {
  return upload_values(ctx, arena, values);
}
Tensor upload(const Context& ctx, Arena& arena, std::span<const float> values) {
  return upload_values(ctx, arena, values);
}
Tensor upload(const Context& ctx, Arena& arena, std::span<const double> values) {
  return upload_values(ctx, arena, values);
}

Batch HostBatch::upload(const Context& ctx, Arena& arena) const {
  std::int64_t most = longest;
  for (std::size_t s = 1; longest == 0 && s < offsets.size(); ++s) {
    most = std::max<std::int64_t>(most, offsets[s] - offsets[s - 1]);
  }
  const auto put = [&](std::span<const std::int32_t> values) { return model::upload(ctx, arena, values); };
  Batch batch{put(ids), put(targets), {{put(offsets), most}, put(positions)}};
  if (!weights.empty()) batch.weights = model::upload(ctx, arena, weights);
  return batch;
}

RowLayout RowLayout::of(std::int64_t batch, std::int64_t length) {
  RowLayout layout{.positions = {}, .offsets = {0}};
  for (std::int64_t row = 0; row < batch; ++row) {
    for (std::int64_t t = 0; t < length; ++t) layout.positions.push_back(static_cast<std::int32_t>(t));
    layout.offsets.push_back(static_cast<std::int32_t>((row + 1) * length));
  }
  return layout;
}

}  // namespace braid::model
