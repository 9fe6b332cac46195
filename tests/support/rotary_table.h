// A rotary table for tests.
#pragma once
#include <cmath>
#include <vector>

#include "braid/ops/rotary.h"
#include "tests/support/tensors.h"

namespace braid::test {

inline constexpr std::int64_t kRotaryPositions = 40;

inline std::vector<double> rotary_frequencies(std::int64_t width) {
  std::vector<double> f;
  for (std::int64_t i = 0; i < width / 2; ++i) {
    f.push_back(std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(width)));
  }
  return f;
}

// For heads of `width` at kRotaryPositions positions.
inline ops::RotaryTable make_rotary_table(Context& ctx, TestTensors& tensors, DType dtype, std::int64_t width,
                                          double factor = 1) {
  const Tensor cos = tensors.make(dtype, {kRotaryPositions, width / 2}), sin = tensors.make(dtype, cos.shape);
  ops::rotary_table(ctx, cos, sin, rotary_frequencies(width), factor);
  return {cos, sin};
}

}  // namespace braid::test
