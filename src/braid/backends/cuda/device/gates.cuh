// The arithmetic of the delta rule's two gates.
#pragma once

namespace braid::cuda {

// log(1 + e^x) and 1 / (1 + e^-x), exact in both tails.
__device__ __forceinline__ float softplus(float x) { return fmaxf(x, 0.0F) + log1pf(expf(-fabsf(x))); }
__device__ __forceinline__ float exact_sigmoid(float x) { return 1.0F / (1.0F + expf(-x)); }

__device__ __forceinline__ float log_decay_of(float a, float a_log, float dt_bias) {
  return -expf(a_log) * softplus(a + dt_bias);
}

}  // namespace braid::cuda
