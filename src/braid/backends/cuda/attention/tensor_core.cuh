// Tensor-core products on bf16 tiles in shared memory: PTX ISA, mma.m16n8k16, ldmatrix and cp.async.
#pragma once
#include <cuda_bf16.h>

#include <cstdint>

namespace braid::cuda::flash {

// Rows of kWidth bf16, in 16-byte pieces whose place is mixed with the row's number, so that eight rows'
// pieces of one column lie in different banks.
template <int kWidth>
struct MixedTile {
  static constexpr int kPieces = kWidth / 8;
  std::uint32_t address;  // in shared memory
  __device__ __forceinline__ std::uint32_t piece(int row, int column) const {
    return address + static_cast<std::uint32_t>(row * kPieces + (column ^ (row & 7))) * 16;
  }
};

// Starts copying 16 bytes, or clears them when `from` is null.
__device__ __forceinline__ void copy_async(std::uint32_t to, const __nv_bfloat16* from, const void* valid) {
  const int bytes = from != nullptr ? 16 : 0;
  const void* source = from != nullptr ? from : valid;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(source), "r"(bytes) : "memory");
}
__device__ __forceinline__ void await_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Four 8 x 8 matrices; lanes 8 i ... 8 i + 7 give the addresses of matrix i's rows.
__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(std::uint32_t (&to)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

// c (16, 8) += a (16, 16) · b (16, 8). Lane l holds of c the columns 2 (l % 4) and the next: c[0], c[1] of
// row l / 4, c[2], c[3] of row l / 4 + 8.
__device__ __forceinline__ void multiply(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                         std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

}  // namespace braid::cuda::flash
