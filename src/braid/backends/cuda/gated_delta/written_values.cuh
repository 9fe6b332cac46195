// What the forward scans share: the values written to the state, from what the state gives for the keys.
#pragma once
#include "braid/backends/cuda/gated_delta/chunk.cuh"

namespace braid::cuda::chunked {

// Transposed accumulators: rows are the warp's 16 columns of the state, columns are tokens.
using Tokens = float[8][4];

// Y of every second value v: β (v − gain u), in the place of u.
__device__ __forceinline__ void written_value(float& u, float v, float gain, float beta, float& largest) {
  u = beta * fmaf(-gain, u, v);
  largest = fmaxf(largest, fabsf(u));
}

// u becomes Y; packed, it is the left operand of the two products to come.
__device__ __forceinline__ void write_values(std::uint32_t (&y)[4][4], Tokens& u, Tile<kSlice> values,
                                             const float* scalars, int packet, int lane, float& largest) {
  largest = 0;
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    std::uint32_t v[4];
    load_matrices_transposed(v, values.columns_first(16 * pair, packet, lane));
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int tile = 2 * pair + i;
      const float* token = scalars + 8 * tile + 2 * (lane % 4);
      const float2 gain = shared_pair(token + kKeyGain * kChunk), beta = shared_pair(token + kBeta * kChunk);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float2 value = PackedBf16::unpack(v[2 * i + half]);
        float &first = u[tile][2 * half], &second = u[tile][2 * half + 1];
        written_value(first, value.x, gain.x, beta.x, largest);
        written_value(second, value.y, gain.y, beta.y, largest);
        y[pair][2 * i + half] = pack_saturated(first, second);
      }
    }
  }
}
// Counts what of u, whose `largest` is known, f16 cannot hold.
__device__ __forceinline__ void count_saturated(const Tokens& u, float largest,
                                                unsigned long long* saturated) {
  if (__any_sync(0xffffffffU, largest > kLargestHalf)) {
    unsigned long long count = 0;
#pragma unroll
    for (int tile = 0; tile < 8; ++tile) {
#pragma unroll
      for (int c = 0; c < 4; ++c) count += fabsf(u[tile][c]) > kLargestHalf;
    }
    if (count > 0) atomicAdd(saturated, count);
  }
}

// The same where token `rows` and those after it write nothing.
__device__ __forceinline__ void clear_tail(std::uint32_t (&y)[4][4], int rows, int lane) {
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = 16 * pair + i / 2 * 8 + 2 * (lane % 4);
      y[pair][i] &= (token < rows ? 0xffffU : 0U) | (token + 1 < rows ? 0xffff0000U : 0U);
    }
  }
}

// Each token's column times its factor.
__device__ __forceinline__ void scale_tokens(Tokens& x, const float* factors, int lane) {
#pragma unroll
  for (int tile = 0; tile < 8; ++tile) {
    const float2 factor = shared_pair(factors + 8 * tile + 2 * (lane % 4));
#pragma unroll
    for (int c = 0; c < 4; ++c) x[tile][c] *= c % 2 == 0 ? factor.x : factor.y;
  }
}

}  // namespace braid::cuda::chunked
