// Batches as plain host vectors, and their copy into tensors.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "braid/model/language_model.h"

namespace braid::model {

// Copies host values into a new tensor of the arena (measuring arenas copy nothing).
Tensor upload(const Context& ctx, Arena& arena, std::span<const std::int32_t> values);
Tensor upload(const Context& ctx, Arena& arena, std::span<const float> values);

// A batch in host memory, and its copy into tensors.
struct HostBatch {
  std::span<const std::int32_t> ids, targets, positions, offsets;
  std::span<const float> weights{};  // of each token's loss in the gradients; empty: all 1
  Batch upload(const Context& ctx, Arena& arena) const;
};

// Where a batch of whole sequences lies: positions and boundaries of B rows of T tokens.
struct RowLayout {
  std::vector<std::int32_t> positions, offsets;
  static RowLayout of(std::int64_t batch, std::int64_t length);
};

}  // namespace braid::model
