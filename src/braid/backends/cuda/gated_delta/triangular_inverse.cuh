// The inverse of a unit lower triangular matrix (64, 64), in f32, by one block of four warps: coarser
// arithmetic is not enough when β nears 2 and keys repeat.
#pragma once
#include "braid/backends/cuda/gated_delta/chunk.cuh"

namespace braid::cuda::chunked {

// Floats from row to row: accumulator fragments then meet no bank twice.
inline constexpr int kInversePitch = 72;

__device__ __forceinline__ float4 shared_quad(const float* p) { return *reinterpret_cast<const float4*>(p); }

// x = high + low, both of tf32's ten bits (the tensor core drops what low has more).
struct SplitFloat {
  std::uint32_t high, low;
};
__device__ __forceinline__ SplitFloat split_float(float x) {
  const std::uint32_t high = (__float_as_uint(x) + 0x1000U) & 0xffffe000U;
  return {high, __float_as_uint(x - __uint_as_float(high))};
}

// c (16 x 8) += a (16 x 8) b (8 x 8) in tf32. a[0], a[1]: rows g and g + 8, column t; a[2], a[3]: column t +
// 4; b0, b1: rows t and t + 4 of column g; c as in tensor_core.cuh.
__device__ __forceinline__ void multiply_tf32(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                              std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A block (16, 16) as two accumulators side by side.
using Block = float[2][4];

// c += a bᵀ with b (16, 16) at `b` in shared memory, to nearly f32: three products of tf32 parts. The index
// that is summed over runs in another order than the instruction has it, alike in both, so that accumulators
// serve as a: t stands for column 2t, t + 4 for column 2t + 1.
__device__ __forceinline__ void multiply_transposed(Block& c, const Block& a, const float* b, int lane) {
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    const SplitFloat x[4] = {split_float(a[k][0]), split_float(a[k][2]), split_float(a[k][1]),
                             split_float(a[k][3])};
    const std::uint32_t high[4] = {x[0].high, x[1].high, x[2].high, x[3].high};
    const std::uint32_t low[4] = {x[0].low, x[1].low, x[2].low, x[3].low};
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const float2 pair = shared_pair(b + (8 * n + lane / 4) * kInversePitch + 8 * k + 2 * (lane % 4));
      const SplitFloat first = split_float(pair.x), second = split_float(pair.y);
      multiply_tf32(c[n], low, first.high, second.high);
      multiply_tf32(c[n], high, first.low, second.low);
      multiply_tf32(c[n], high, first.high, second.high);
    }
  }
}

// Block (16, 16) at `m`: from L below the diagonal, zeros elsewhere, to (1 + L)⁻¹, by one warp. Lane j < 16
// solves column j.
__device__ __forceinline__ void invert_block(float* m, int lane) {
  const int column = lane & 15;
  float x[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    float even = i == column ? 1.0F : 0.0F, odd = 0;
#pragma unroll
    for (int l = 0; l < i; l += 4) {
      const float4 row = shared_quad(m + i * kInversePitch + l);
      even = fmaf(-row.x, x[l], even);
      if (l + 1 < i) odd = fmaf(-row.y, x[l + 1], odd);
      if (l + 2 < i) even = fmaf(-row.z, x[l + 2], even);
      if (l + 3 < i) odd = fmaf(-row.w, x[l + 3], odd);
    }
    x[i] = even + odd;
  }
  __syncwarp();
  if (lane < 16) {
#pragma unroll
    for (int i = 0; i < 16; ++i) m[i * kInversePitch + column] = x[i];
  }
}

// m holds L strictly below the diagonal and zeros on and above it in the blocks on the diagonal. Warp j gets
// block column j of T = (1 + L)⁻¹, transposed: blocks[r] is block (j + r, j), r < 4 − j. In m the blocks on
// the diagonal are replaced by those of T.
__device__ __forceinline__ void invert_triangular(Block (&blocks)[4], float* m, int warp, int lane) {
  const auto at = [&](int row, int column) { return m + 16 * (row * kInversePitch + column); };
  invert_block(at(warp, warp), lane);
  __syncthreads();
  const float* own = at(warp, warp) + 2 * (lane % 4) * kInversePitch + lane / 4;
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) blocks[0][n][c] = own[(8 * n + c % 2) * kInversePitch + c / 2 * 8];
  }
  // T_ij = −T_ii Σ_l L_il T_lj
#pragma unroll
  for (int r = 1; r < 4; ++r) {
    if (warp + r >= 4) break;
    Block sum = {};
#pragma unroll
    for (int s = 0; s < r; ++s) multiply_transposed(sum, blocks[s], at(warp + r, warp + s), lane);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        sum[n][c] = -sum[n][c];
        blocks[r][n][c] = 0;
      }
    }
    multiply_transposed(blocks[r], sum, at(warp + r, warp + r), lane);
  }
}

}  // namespace braid::cuda::chunked
