// Batches as plain host vectors, and their copy into tensors.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "braid/model/language_model.h"

namespace braid::model {

// Copies host values into a new tensor of the arena (measuring arenas copy nothing).
Tensor upload(const Context& ctx, Arena& arena, std::span<const std::int32_t> values);
Tensor upload(const Context& ctx, Arena& arena, std::span<const float> values);
Tensor upload(const Context& ctx, Arena& arena, std::span<const double> values);

// Several arrays at the price of one copy to the device; each begins on 16 bytes.
template <class... T>
std::array<Tensor, sizeof...(T)> upload_together(const Context& ctx, Arena& arena,
                                                 const std::vector<T>&... values) {
  constexpr std::size_t kBoundary = 16;
  const auto padded = [](std::size_t bytes) { return (bytes + kBoundary - 1) / kBoundary * kBoundary; };
  const Tensor all = arena.make(
      DType::u8, {static_cast<std::int64_t>((std::size_t{0} + ... + padded(values.size() * sizeof(T))))});
  std::vector<std::byte> staged(all.data != nullptr ? all.bytes() : 0);
  std::size_t at = 0;
  const auto place = [&]<class E>(const std::vector<E>& from) {
    Tensor t = all;
    t.dtype = dtype_of<E>;
    t.shape = {static_cast<std::int64_t>(from.size())};
    if (all.data != nullptr) {
      if (!from.empty()) std::memcpy(staged.data() + at, from.data(), from.size() * sizeof(E));
      t.data = static_cast<std::byte*>(all.mutable_data()) + at;
    }
    at += padded(from.size() * sizeof(E));
    return t;
  };
  const std::array tensors{place(values)...};
  if (!staged.empty()) ctx.memory->write(all.mutable_data(), staged.data(), staged.size());
  return tensors;
}

// A batch in host memory, and its copy into tensors.
struct HostBatch {
  std::span<const std::int32_t> ids, targets, positions, offsets;
  std::span<const float> weights{};  // of each token's loss in the gradients; empty: all 1
  std::int64_t longest = 0;          // no segment is longer; 0: the longest that there is
  Batch upload(const Context& ctx, Arena& arena) const;
};

// Where a batch of whole sequences lies: positions and boundaries of B rows of T tokens.
struct RowLayout {
  std::vector<std::int32_t> positions, offsets;
  static RowLayout of(std::int64_t batch, std::int64_t length);
};

}  // namespace braid::model
