// One function per instruction: tensor-core products of one warp, matrix loads and stores, asynchronous
// copies. Fragment layouts are those of PTX: lane = 4 row + column pair ("g" and "t" below are lane / 4 and
// lane % 4).
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace braid::cuda {

using bf16 = __nv_bfloat16;

// Two 16-bit values in a register, the first in the low half.
struct PackedBf16 {
  static __device__ __forceinline__ std::uint32_t pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  }
  static __device__ __forceinline__ float2 unpack(std::uint32_t x) {
    return {__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000U)};
  }
};
struct PackedHalf {
  static __device__ __forceinline__ std::uint32_t pack(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  }
};
inline constexpr float kLargestHalf = 65504.0F;
// As PackedHalf::pack, but values beyond f16's range become its largest.
__device__ __forceinline__ std::uint32_t pack_saturated(float low, float high) {
  std::uint32_t packed;
  asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// c (16 x 8, f32) += a (16 x 16) b (16 x 8). c[0..1] is row g, columns 2t and 2t + 1; c[2..3] row g + 8.
// a[0], a[1]: rows g and g + 8, columns 2t, 2t + 1; a[2], a[3]: columns 2t + 8, 2t + 9. b0, b1: rows 2t, 2t +
// 1 and 2t + 8, 2t + 9 of column g.
__device__ __forceinline__ void multiply(PackedBf16, float (&c)[4], const std::uint32_t (&a)[4],
                                         std::uint32_t b0, std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void multiply(PackedHalf, float (&c)[4], const std::uint32_t (&a)[4],
                                         std::uint32_t b0, std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

using SharedAddress = std::uint32_t;
__device__ __forceinline__ SharedAddress shared_address(const void* p) {
  return static_cast<SharedAddress>(__cvta_generic_to_shared(p));
}

// The memory that a launch gives each block besides its variables.
__device__ __forceinline__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char dynamic_memory[];
  return dynamic_memory;
}

// The same on a multiple of 1024 bytes, as swizzled tiles want it; a kernel with shared variables besides
// would lose up to that much.
__device__ __forceinline__ unsigned char* aligned_dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char aligned_dynamic_memory[];
  return aligned_dynamic_memory;
}

// Four 8 x 8 matrices; lane l names row l % 8 of matrix l / 8. Of each the lane gets row g, columns 2t and 2t
// + 1; transposed: rows 2t and 2t + 1 of column g.
__device__ __forceinline__ void load_matrices(std::uint32_t (&r)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(std::uint32_t (&r)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
__device__ __forceinline__ void store_matrices(SharedAddress row, const std::uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(row), "r"(r[0]),
               "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}
__device__ __forceinline__ void store_matrices_transposed(SharedAddress row, const std::uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(row), "r"(r[0]),
               "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

__device__ __forceinline__ void store_shared(SharedAddress to, uint4 x) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w)
               : "memory");
}

__device__ __forceinline__ uint4 load_shared(SharedAddress from) {
  uint4 x;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "r"(from)
               : "memory");
  return x;
}

// 16 bytes from global memory; with !valid zeros, and nothing is read.
__device__ __forceinline__ void copy_async(SharedAddress to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
               "r"(valid ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most kPending of this thread's latest groups are on their way.
template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// As __syncthreads, where the warps arrive from different places in the code.
template <int kThreads>
__device__ __forceinline__ void block_barrier() {
  asm volatile("barrier.sync 1, %0;" ::"n"(kThreads) : "memory");
}
// Of the block's warpgroup `group`, the same in all of its threads, alone: barriers 2 and 3, beside
// block_barrier's 1.
__device__ __forceinline__ void warpgroup_barrier(int group) {
  asm volatile("barrier.sync %0, 128;" ::"r"(group + 2) : "memory");
}
// A turn that two warpgroups pass to each other, by barriers 4 and 5: `group` waits until it has been passed
// to it. (A barrier named in a register takes all sixteen from the block's multiprocessor.)
__device__ __forceinline__ void wait_for_turn(int group) {
  asm volatile("barrier.sync %0, 256;" ::"r"(group + 4) : "memory");
}
__device__ __forceinline__ void pass_turn_to(int group) {
  asm volatile("barrier.arrive %0, 256;" ::"r"(group + 4) : "memory");
}

}  // namespace braid::cuda
