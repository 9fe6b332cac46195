// Which keys a query sees.
#pragma once
#include "braid/backends/cuda/attention/flash.h"

namespace braid::cuda::flash {

__device__ __forceinline__ std::int32_t first_visible(const Problem& p, std::int32_t position) {
  return max(0, position - p.window + 1);
}
// Without a branch, and callers must not add one: a branch for every element of a tile costs more than the
// tile's products.
__device__ __forceinline__ bool visible(const Problem& p, std::int32_t query, std::int32_t key) {
  return static_cast<bool>(static_cast<int>(key <= query) & static_cast<int>(key > query - p.window));
}
__device__ __forceinline__ bool either(bool a, bool b) {
  return static_cast<bool>(static_cast<int>(a) | static_cast<int>(b));
}

}  // namespace braid::cuda::flash
