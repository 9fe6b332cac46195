// Which keys a query sees.
#pragma once
#include "braid/backends/cuda/attention/flash.h"

namespace braid::cuda::flash {

__device__ __forceinline__ std::int32_t first_visible(const Problem& p, std::int32_t position) {
  return max(0, position - p.window + 1);
}
__device__ __forceinline__ bool visible(const Problem& p, std::int32_t query, std::int32_t key) {
  return key <= query && key > query - p.window;
}

}  // namespace braid::cuda::flash
