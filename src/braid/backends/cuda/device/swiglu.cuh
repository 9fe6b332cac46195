// SwiGLU of one element, by the one-instruction sigmoid: every kernel that computes it in training has the
// same bits.
#pragma once
#include "braid/backends/cuda/device/approximate.cuh"

namespace braid::cuda {

__device__ __forceinline__ float swiglu(float gate, float up) { return gate * fast_sigmoid(gate) * up; }

// d: of swiglu(gate, up).
struct SwigluGradient {
  float gate, up;
  __device__ __forceinline__ SwigluGradient(float d, float g, float u) {
    const float s = fast_sigmoid(g), silu = g * s;
    gate = d * u * fmaf(silu, 1.0F - s, s);
    up = d * silu;
  }
};

}  // namespace braid::cuda
