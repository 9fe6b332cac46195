// What the second-level cache is told about what passes through it.
#pragma once
#include <cstdint>

#include "braid/backends/cuda/device/elements.cuh"

namespace braid::cuda {

// How long the second-level cache keeps what passes through: no longer than it must, for what is used once in
// a token, so that small things that are read again stay.
using CachePolicy = std::uint64_t;
__device__ __forceinline__ CachePolicy used_once() {
  CachePolicy policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// Asks for the line of `from` to be brought into L2; and kept there.
__device__ __forceinline__ void prefetch_to_l2(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(from)));
}
__device__ __forceinline__ void keep_in_l2(const void* from) {
  asm volatile("prefetch.global.L2::evict_last [%0];" ::"l"(__cvta_generic_to_global(from)));
}

// Four floats that nobody reads for long.
__device__ __forceinline__ void store_once(float* to, const Elements<float, 4>& x, CachePolicy policy) {
  asm volatile(
      "st.global.L2::cache_hint.v4.f32 [%0], {%1, %2, %3, %4}, %5;" ::"l"(__cvta_generic_to_global(to)),
      "f"(x.values[0]), "f"(x.values[1]), "f"(x.values[2]), "f"(x.values[3]), "l"(policy));
}

}  // namespace braid::cuda
