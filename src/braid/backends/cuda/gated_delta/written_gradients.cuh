// What the backward scans share: gradients of the written values and of the outputs as operands.
#pragma once
#include "braid/backends/cuda/gated_delta/written_values.cuh"

namespace braid::cuda::chunked {

// Tokens as left operands: 16 of them to each.
using TokenOperands = std::uint32_t[4][4];

// dy becomes what is stored as dV; packed: −γ r_k dW.
__device__ __forceinline__ void scale_written(TokenOperands& packed, Tokens& dy, const float* scalars,
                                              int lane) {
#pragma unroll
  for (int tile = 0; tile < 8; ++tile) {
    const float* token = scalars + 8 * tile + 2 * (lane % 4);
    const float2 beta = shared_pair(token + kBeta * kChunk), gain = shared_pair(token + kKeyGain * kChunk);
    const float x = is_tiny(beta.x) ? 1.0F : beta.x, y = is_tiny(beta.y) ? 1.0F : beta.y;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float &first = dy[tile][2 * half], &second = dy[tile][2 * half + 1];
      packed[tile / 2][tile % 2 * 2 + half] =
          PackedBf16::pack(-gain.x * (beta.x * first), -gain.y * (beta.y * second));
      first *= x;
      second *= y;
    }
  }
}

// dO scaled by scale γ r_q.
__device__ __forceinline__ void scale_outputs(TokenOperands& dout, const float* scalars, float scale,
                                              int lane) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 gain = shared_pair(scalars + kQueryGain * kChunk + 16 * k + i / 2 * 8 + 2 * (lane % 4));
      const float2 x = PackedBf16::unpack(dout[k][i]);
      dout[k][i] = PackedBf16::pack(x.x * (gain.x * scale), x.y * (gain.y * scale));
    }
  }
}

}  // namespace braid::cuda::chunked
