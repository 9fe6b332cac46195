// Blocks of a cluster meet and write to each other's shared memory; one function per instruction.
#pragma once
#include "braid/backends/cuda/device/tensor_core.cuh"

namespace braid::cuda {

// A thread that waits, waits until all threads of the cluster that have not returned have arrived; writes to
// shared memory before the arrival are visible after the wait.
__device__ __forceinline__ void arrive_at_cluster() {
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
}
__device__ __forceinline__ void wait_for_cluster() {
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}

// Four values to a multiple of 16 in the shared memory of block `rank` of the cluster, at its own address
// `to`.
__device__ __forceinline__ void store_shared_of(int rank, SharedAddress to, const float (&x)[4]) {
  asm volatile(
      "{.reg .u32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "st.shared::cluster.v4.f32 [there], {%2, %3, %4, %5};}" ::"r"(to),
      "r"(rank), "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3])
      : "memory");
}
// Adds four values in this block's shared memory.
__device__ __forceinline__ void add_shared(SharedAddress from, float (&x)[4]) {
  float y[4];
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(y[0]), "=f"(y[1]), "=f"(y[2]), "=f"(y[3])
               : "r"(from)
               : "memory");
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] += y[i];
}

}  // namespace braid::cuda
