// As src/braid/backends/cuda/device/cache_policy.cuh, emulated: there is no cache.
#pragma once
#include <cstdint>

#include "braid/backends/cuda/device/elements.cuh"

namespace braid::cuda {

using CachePolicy = std::uint64_t;
inline CachePolicy used_once() { return 0; }
inline void store_once(float* to, const Elements<float, 4>& x, CachePolicy) { store(to, x); }

}  // namespace braid::cuda
