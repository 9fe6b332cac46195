// Products of a warpgroup (wgmma.cuh) whose operands lie in slabs (tile.cuh).
#pragma once
#include "braid/backends/cuda/device/tile.cuh"
#include "braid/backends/cuda/device/wgmma.cuh"

namespace braid::cuda {

// Operands in slabs, the k-th 16 of k: k along the columns, n (or the rows of a left operand) from row `row`
// on; and k along the rows, n from the 32 columns `slab` on.
template <int kRows, int kWidth>
__device__ __forceinline__ std::uint64_t columns_along_k(Slabs<kRows, kWidth> tile, int k, int row = 0) {
  const int offset = k / 2 * tile.kSlabBytes + k % 2 * 32 + row * 64;
  return matrix_descriptor(tile.base + static_cast<SharedAddress>(offset), 0, 512, RowSwizzle::bytes64);
}
template <int kRows, int kWidth>
__device__ __forceinline__ std::uint64_t rows_along_k(Slabs<kRows, kWidth> tile, int k, int slab = 0) {
  const int offset = slab * tile.kSlabBytes + k * 16 * 64;
  return matrix_descriptor(tile.base + static_cast<SharedAddress>(offset), tile.kSlabBytes, 512,
                           RowSwizzle::bytes64);
}

// d (64, n) = [d +] a (64, 16 kSteps) b: a(k) in registers or shared memory, b(k, n) from column n on.
template <Lines kLines, bool kAdd, int kSteps, class Packed, int kTiles, class Left, class Right>
__device__ __forceinline__ void multiply_steps(Packed packed, float (&d)[kTiles][4], Left a, Right b) {
  constexpr int kGroup = kTiles % 12 == 0 ? 12 : kTiles % 8 == 0 ? 8 : 4;  // of an instruction
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
#pragma unroll
    for (int tile = 0; tile < kTiles; tile += kGroup) {
      auto& columns = reinterpret_cast<float(&)[kGroup][4]>(d[tile]);
      if (kAdd || k > 0) {
        multiply_async<kLines, true>(packed, columns, a(k), b(k, 8 * tile));
      } else {
        multiply_async<kLines, false>(packed, columns, a(k), b(k, 8 * tile));
      }
    }
  }
}

}  // namespace braid::cuda
