#include "braid/model/host_batch.h"

#include <cstring>

namespace braid::model {

Tensor upload(Arena& arena, std::span<const std::int32_t> values) {
  const Tensor t = arena.make(DType::i32, {static_cast<std::int64_t>(values.size())});
  if (t.data != nullptr && !values.empty()) std::memcpy(t.mutable_data(), values.data(), values.size_bytes());
  return t;
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
