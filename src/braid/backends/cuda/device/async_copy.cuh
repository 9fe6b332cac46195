// Copies by the copy engine from global to shared memory and back, and the barriers in shared memory on which
// those copies and their readers meet; one function per instruction.
#pragma once
#include <cuda.h>

#include "braid/backends/cuda/device/cache_policy.cuh"
#include "braid/backends/cuda/device/tensor_core.cuh"

namespace braid::cuda {

// A phase of the barrier ends with `arrivals` arrivals and as many bytes as these expect.
__device__ __forceinline__ void init_barrier(SharedAddress barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// Shows the copy engine new barriers; a block's barrier is to follow.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void arrive(SharedAddress barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void arrive_expecting(SharedAddress barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// Until the phase with this parity (0, 1, 0, …) is over.
__device__ __forceinline__ void wait_for_phase(SharedAddress barrier, int parity) {
  asm volatile(
      "{.reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// Orders this thread's ordinary accesses to shared memory before later ones by the tensor cores and the copy
// engine. Reads too: an arrival does not wait for loads that are still on their way, and a place given back
// by it alone has been written again before they came (bench/results/h200.md).
__device__ __forceinline__ void fence_shared_for_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// A contiguous piece; `bytes` and both addresses are multiples of 16.
__device__ __forceinline__ void copy_bulk(SharedAddress to, const void* from, int bytes,
                                          SharedAddress barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
      : "memory");
}
__device__ __forceinline__ void copy_bulk(SharedAddress to, const void* from, int bytes,
                                          SharedAddress barrier, CachePolicy policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, "
      "[%3], "
      "%4;" ::"r"(to),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
}
// Brings a tensor's description near, so that the first box need not wait for it.
__device__ __forceinline__ void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}
// The box of a tensor that begins at coordinates x, y, …, the first the contiguous one.
__device__ __forceinline__ void copy_box(SharedAddress to, const CUtensorMap& from, SharedAddress barrier,
                                         int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], "
      "[%2];" ::"r"(to),
      "l"(&from), "r"(barrier), "r"(x), "r"(y)
      : "memory");
}
__device__ __forceinline__ void copy_box(SharedAddress to, const CUtensorMap& from, SharedAddress barrier,
                                         CachePolicy policy, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, "
      "{%3, %4}], [%2], %5;" ::"r"(to),
      "l"(&from), "r"(barrier), "r"(x), "r"(y), "l"(policy)
      : "memory");
}
__device__ __forceinline__ void copy_box(SharedAddress to, const CUtensorMap& from, SharedAddress barrier,
                                         int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, "
      "%5}], [%2];" ::"r"(to),
      "l"(&from), "r"(barrier), "r"(x), "r"(y), "r"(z)
      : "memory");
}
__device__ __forceinline__ void copy_box(SharedAddress to, const CUtensorMap& from, SharedAddress barrier,
                                         int x, int y, int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, "
      "%6}], [%2];" ::"r"(to),
      "l"(&from), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}
__device__ __forceinline__ void copy_box(SharedAddress to, const CUtensorMap& from, SharedAddress barrier,
                                         int x, int y, int z, int w, int v) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, "
      "%6, %7}], [%2];" ::"r"(to),
      "l"(&from), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w), "r"(v)
      : "memory");
}

// From shared memory to the box of a tensor that begins at coordinates x, y; what of it lies outside of the
// tensor is left out. Stores are the thread's own, in groups as cp.async's copies.
__device__ __forceinline__ void store_box(const CUtensorMap& to, SharedAddress from, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&to),
               "r"(from), "r"(x), "r"(y)
               : "memory");
}
__device__ __forceinline__ void store_box(const CUtensorMap& to, SharedAddress from, CachePolicy policy,
                                          int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group.L2::cache_hint [%0, {%2, %3}], [%1], %4;" ::"l"(
          &to),
      "r"(from), "r"(x), "r"(y), "l"(policy)
      : "memory");
}
__device__ __forceinline__ void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until the stores of this thread's groups have read shared memory, which may then be written again, or end
// with the block.
__device__ __forceinline__ void wait_for_stores_to_read() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

}  // namespace braid::cuda
