// As src/braid/backends/cuda/device/cluster.cuh, emulated.
#pragma once
#include "braid/backends/cuda/device/tensor_core.cuh"

namespace braid::cuda {

inline void arrive_at_cluster() { test::emulation::arrive_at_cluster(); }
inline void wait_for_cluster() { test::emulation::wait_for_cluster(); }

inline void store_shared_of(int rank, SharedAddress to, const float (&x)[4]) {
  std::memcpy(shared_pointer(test::emulation::address_of(static_cast<unsigned>(rank), to)), x, sizeof(x));
}
inline void add_shared(SharedAddress from, float (&x)[4]) {
  float y[4];
  std::memcpy(y, shared_pointer(from), sizeof(y));
  for (int i = 0; i < 4; ++i) x[i] += y[i];
}

}  // namespace braid::cuda
