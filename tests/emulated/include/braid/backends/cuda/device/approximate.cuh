// As src/braid/backends/cuda/device/approximate.cuh, emulated.
#pragma once
#include "tests/emulated/emulation.h"

namespace braid::cuda {

inline float fast_exp2(float x) {
  const float y = std::exp2(x);
  return std::fpclassify(y) == FP_SUBNORMAL ? 0.0F : y;
}

}  // namespace braid::cuda
