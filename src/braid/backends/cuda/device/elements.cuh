// Neighbouring elements moved together, and sums over the threads that share a row.
#pragma once
#include "braid/backends/cuda/device/math.cuh"

namespace braid::cuda {

// kN elements, moved in as few accesses of at most 16 bytes as they need; addresses are multiples of that.
template <class T, int kN>
struct alignas(kN * sizeof(T) < 16 ? kN * sizeof(T) : 16) Elements {
  T values[kN];
  __device__ __forceinline__ float operator[](int i) const { return to_float(values[i]); }
  __device__ __forceinline__ void set(int i, float x) { values[i] = from_float<T>(x); }
};

template <int kN, class T>
__device__ __forceinline__ Elements<T, kN> load(const T* from) {
  return *reinterpret_cast<const Elements<T, kN>*>(from);
}
template <int kN, class T>
__device__ __forceinline__ void store(T* to, const Elements<T, kN>& elements) {
  *reinterpret_cast<Elements<T, kN>*>(to) = elements;
}

// Of memory that the whole kernel only reads: may move across stores.
template <int kN>
__device__ __forceinline__ Elements<float, kN> load_constant(const float* from) {
  Elements<float, kN> e;
  if constexpr (kN % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kN; i += 4) {
      *reinterpret_cast<float4*>(e.values + i) = __ldg(reinterpret_cast<const float4*>(from + i));
    }
  } else {
#pragma unroll
    for (int i = 0; i < kN; ++i) e.values[i] = __ldg(from + i);
  }
  return e;
}

// Sum over each kGroup neighbouring threads (a power of two up to 32, or a multiple of 32); all of them get
// the same bits. The whole block calls; `shared` holds kThreads / 32 floats and is free again after the call.
template <int kGroup>
__device__ __forceinline__ float group_sum(float x, float* shared) {
#pragma unroll
  for (int step = (kGroup < 32 ? kGroup : 32) / 2; step > 0; step /= 2) {
    x += __shfl_xor_sync(0xffffffffU, x, step);
  }
  if constexpr (kGroup <= 32) {
    return x;
  } else {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread % 32 == 0) shared[thread / 32] = x;
    __syncthreads();
    const float* mine = shared + thread / kGroup * (kGroup / 32);
    float total = 0;
#pragma unroll
    for (int w = 0; w < kGroup / 32; ++w) total += mine[w];
    __syncthreads();
    return total;
  }
}

}  // namespace braid::cuda
