// Products of one warp's 16 rows with tiles of bf16 rows in shared memory: scores and sums over them. Every
// element is summed in the same order, so equal rows give equal bits whichever kernel multiplies them.
#pragma once
#include "braid/backends/cuda/device/tile.cuh"

namespace braid::cuda::flash {

// Rows of one head, as wide as the kernel.
template <int kWidth>
using HeadRows = cuda::Tile<kWidth>;

// 16 rows as the left operand of products, 16 columns each.
template <int kWidth>
struct LeftRows {
  std::uint32_t a[kWidth / 16][4];

  __device__ __forceinline__ void load(const HeadRows<kWidth>& rows, int row, int lane) {
#pragma unroll
    for (int d = 0; d < kWidth / 16; ++d) rows.left(a[d], row, 2 * d, lane);
  }
};

// dots[n] (16, 8) = left · rows `row` + 8 n to `row` + 8 n + 7 of `right`.
template <int kColumns, int kWidth>
__device__ __forceinline__ void dot_rows(float (&dots)[kColumns / 8][4], const LeftRows<kWidth>& left,
                                         const HeadRows<kWidth>& right, int row, int lane) {
#pragma unroll
  for (auto& dot : dots) dot[0] = dot[1] = dot[2] = dot[3] = 0;
#pragma unroll
  for (int d = 0; d < kWidth / 16; ++d) {
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      std::uint32_t b[4];
      right.right_transposed(b, row + 16 * n, 2 * d, lane);
      multiply_pair<PackedBf16>(dots[2 * n], dots[2 * n + 1], left.a[d], b);
    }
  }
}

// sums[d] (16, 8), columns 8 d and on, += weights (16, kColumns), rounded to bf16, · rows `row` and on of
// `right`.
template <int kColumns, int kWidth>
__device__ __forceinline__ void add_rows(float (&sums)[kWidth / 8][4],
                                         const float (&weights)[kColumns / 8][4],
                                         const HeadRows<kWidth>& right, int row, int lane) {
#pragma unroll
  for (int n = 0; n < kColumns / 16; ++n) {
    std::uint32_t a[4];
    pack_pair<PackedBf16>(a, weights[2 * n], weights[2 * n + 1]);
#pragma unroll
    for (int d = 0; d < kWidth / 16; ++d) {
      std::uint32_t b[4];
      right.right(b, row + 16 * n, 2 * d, lane);
      multiply_pair<PackedBf16>(sums[2 * d], sums[2 * d + 1], a, b);
    }
  }
}

}  // namespace braid::cuda::flash
