// As src/braid/backends/cuda/device/approximate.cuh, emulated.
#pragma once
#include "tests/emulated/emulation.h"

namespace braid::cuda {

inline float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? 0.0F : x; }
inline float fast_exp2(float x) { return flushed(std::exp2(x)); }
inline float fast_exp(float x) { return flushed(std::exp(x)); }
inline float fast_reciprocal(float x) { return flushed(1.0F / x); }
inline float fast_sigmoid(float x) { return fast_reciprocal(1.0F + fast_exp(-x)); }

}  // namespace braid::cuda
