// One-instruction functions, good to about 2 ulp (e^x: of x, as x log2 e is rounded), that take subnormals
// for zero: in kernels that touch each byte once the plain intrinsics' care for subnormals would cost as much
// as the rest.
#pragma once

namespace braid::cuda {

__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float fast_exp(float x) { return fast_exp2(x * 1.4426950408889634F); }
__device__ __forceinline__ float fast_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// Zero where e^-x overflows.
__device__ __forceinline__ float fast_sigmoid(float x) { return fast_reciprocal(1.0F + fast_exp(-x)); }

}  // namespace braid::cuda
