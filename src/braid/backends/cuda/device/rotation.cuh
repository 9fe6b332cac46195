// What a rotary table says of a position.
#pragma once
#include "braid/backends/cuda/device/cache_policy.cuh"
#include "braid/backends/cuda/device/elements.cuh"

namespace braid::cuda {

template <int kN>
struct Rotation {
  Elements<float, kN> cosine, sine;
};

// kN components from `column` of row `position` of the tables (rows, half). A position outside of them gives
// NaN, which shows; the host cannot look.
template <int kN>
__device__ __forceinline__ Rotation<kN> load_rotation(const float* cosines, const float* sines,
                                                      std::int64_t position, std::int64_t rows, int half,
                                                      int column) {
  Rotation<kN> r;
#pragma unroll
  for (int j = 0; j < kN; ++j) r.cosine.values[j] = r.sine.values[j] = nanf("");
  if (position >= 0 && position < rows) {
    r.cosine = load_constant<kN>(cosines + position * half + column);
    r.sine = load_constant<kN>(sines + position * half + column);
  }
  return r;
}

// Brings near what load_rotation will read.
__device__ __forceinline__ void prefetch_rotation(const float* cosines, const float* sines,
                                                  std::int64_t position, std::int64_t rows, int half,
                                                  int column) {
  if (position < 0 || position >= rows) return;
  prefetch_to_l2(cosines + position * half + column);
  prefetch_to_l2(sines + position * half + column);
}

}  // namespace braid::cuda
