// As src/braid/backends/cuda/device/early.cuh, emulated: kernels follow one another.
#pragma once

namespace braid::cuda {

inline void let_next_start() {}
inline void begin_early(bool = false) {}
inline void wait_for_earlier() {}

}  // namespace braid::cuda
