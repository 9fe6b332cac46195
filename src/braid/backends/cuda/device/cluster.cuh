// Blocks of a cluster meet and read each other's shared memory; one function per instruction.
#pragma once
#include "braid/backends/cuda/device/tensor_core.cuh"

namespace braid::cuda {

// All threads of the cluster that have not returned arrive, then wait for each other; writes to shared memory
// before the arrival are visible after the wait.
__device__ __forceinline__ void arrive_at_cluster() {
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
}
__device__ __forceinline__ void wait_for_cluster() {
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}

// Four values at a multiple of 16 in this block's shared memory.
__device__ __forceinline__ void store_shared(SharedAddress to, const float (&x)[4]) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(x[0]), "f"(x[1]), "f"(x[2]),
               "f"(x[3])
               : "memory");
}
// Adds the four values that block `rank` of the cluster has at its own address `from`.
__device__ __forceinline__ void add_shared_of(int rank, SharedAddress from, float (&x)[4]) {
  float y[4];
  asm volatile(
      "{.reg .u32 there;\n"
      "mapa.shared::cluster.u32 there, %4, %5;\n"
      "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there];}"
      : "=f"(y[0]), "=f"(y[1]), "=f"(y[2]), "=f"(y[3])
      : "r"(from), "r"(rank)
      : "memory");
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] += y[i];
}

}  // namespace braid::cuda
