// SwiGLU of one element, and the slope of SiLU, by the one-instruction sigmoid: every kernel that computes
// SwiGLU in training has the same bits.
#pragma once
#include "braid/backends/cuda/device/approximate.cuh"

namespace braid::cuda {

// d silu(x) / dx from silu(x) and sigmoid(x).
__device__ __forceinline__ float silu_slope(float silu, float sigmoid) {
  return fmaf(silu, 1.0F - sigmoid, sigmoid);
}

__device__ __forceinline__ float swiglu(float gate, float up) { return gate * fast_sigmoid(gate) * up; }

// d: of swiglu(gate, up).
struct SwigluGradient {
  float gate, up;
  __device__ __forceinline__ SwigluGradient(float d, float g, float u) {
    const float s = fast_sigmoid(g), silu = g * s;
    gate = d * u * silu_slope(silu, s);
    up = d * silu;
  }
};

}  // namespace braid::cuda
