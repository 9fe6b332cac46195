// As src/braid/backends/cuda/device/cache_policy.cuh, emulated: there is no cache.
#pragma once
#include <cstdint>

namespace braid::cuda {

using CachePolicy = std::uint64_t;
inline CachePolicy used_once() { return 0; }

}  // namespace braid::cuda
