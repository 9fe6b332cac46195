// The inverse of a unit lower triangular matrix (64, 64) in shared memory, in f32, by one block of 128
// threads.
#pragma once
#include "braid/backends/cuda/gated_delta/chunk.cuh"

namespace braid::cuda::chunked {

// Floats from row to row: accumulator fragments then meet no bank twice.
inline constexpr int kInversePitch = 72;

// Rows [row, row + kRows) of a row-major matrix, 4 columns from `column`; and the sums over l of their
// products.
__device__ __forceinline__ void add_product(float4& sum, float left, const float4& right) {
  sum.x = fmaf(left, right.x, sum.x);
  sum.y = fmaf(left, right.y, sum.y);
  sum.z = fmaf(left, right.z, sum.z);
  sum.w = fmaf(left, right.w, sum.w);
}
__device__ __forceinline__ float4 shared_quad(const float* p) { return *reinterpret_cast<const float4*>(p); }
// sum + Σ_l left[l] right[l][0..3] over l in [begin, end), multiples of 4.
__device__ __forceinline__ float4 dot_rows(const float* left, const float* right, int begin, int end) {
  float4 sum{0, 0, 0, 0};
  for (int l = begin; l < end; l += 4) {
    const float4 x = shared_quad(left + l);
    add_product(sum, x.x, shared_quad(right + (l + 0) * kInversePitch));
    add_product(sum, x.y, shared_quad(right + (l + 1) * kInversePitch));
    add_product(sum, x.z, shared_quad(right + (l + 2) * kInversePitch));
    add_product(sum, x.w, shared_quad(right + (l + 3) * kInversePitch));
  }
  return sum;
}

// Block (16, 16) at `m`: from L below the diagonal to (1 + L)⁻¹, by one warp. Lane j < 16 solves column j.
__device__ __forceinline__ void invert_block(float* m, int lane) {
  const int column = lane & 15;
  float x[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    float sum = i == column ? 1.0F : 0.0F;
#pragma unroll
    for (int l = 0; l < i; ++l) sum = fmaf(-m[i * kInversePitch + l], x[l], sum);
    x[i] = sum;
  }
  __syncwarp();
  if (lane < 16) {
#pragma unroll
    for (int i = 0; i < 16; ++i) m[i * kInversePitch + column] = x[i];
  }
}

// m holds L strictly below the diagonal; on return (1 + L)⁻¹ on and below it, and scratch values above.
// Blocks on the diagonal by substitution, then twice [[A, 0], [C, B]]⁻¹ = [[A⁻¹, 0], [−B⁻¹ C A⁻¹, B⁻¹]] with
// the products in f32: coarser arithmetic is not enough when β nears 2 and keys repeat. The product C A⁻¹
// waits in the zero block.
__device__ __forceinline__ void invert_triangular(float* m, int thread) {
  const int warp = thread / 32, lane = thread % 32;
  invert_block(m + warp * 16 * (kInversePitch + 1), lane);
  __syncthreads();
  {
    float* pair = m + thread / 64 * 32 * (kInversePitch + 1);  // 64 threads to each pair of blocks
    const int row = thread % 64 / 4, column = thread % 4 * 4;
    const float4 product = dot_rows(pair + (16 + row) * kInversePitch, pair + column, 0, 16);
    *reinterpret_cast<float4*>(pair + row * kInversePitch + 16 + column) = product;
    __syncthreads();
    const float4 x = dot_rows(pair + (16 + row) * kInversePitch + 16, pair + 16 + column, 0, 16);
    *reinterpret_cast<float4*>(pair + (16 + row) * kInversePitch + column) = {-x.x, -x.y, -x.z, -x.w};
  }
  __syncthreads();
  const int row = thread / 8, column = thread % 8 * 4;
  float* below = m + 32 * kInversePitch;
  const int begin = column < 16 ? 0 : 16;  // A⁻¹ is zero above its diagonal
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = row + 16 * half;
    const float4 product = dot_rows(below + i * kInversePitch, m + column, begin, 32);
    *reinterpret_cast<float4*>(m + i * kInversePitch + 32 + column) = product;
  }
  __syncthreads();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = row + 16 * half;
    const float4 x = dot_rows(below + i * kInversePitch + 32, m + 32 + column, 0, 16 + 16 * half);
    *reinterpret_cast<float4*>(below + i * kInversePitch + column) = {-x.x, -x.y, -x.z, -x.w};
  }
  __syncthreads();
}

}  // namespace braid::cuda::chunked
