// Rotary position embedding (Su et al. 2021) in the half-split layout: component i pairs with i + D/2.
#pragma once
#include <span>

#include "braid/core/context.h"

namespace braid::ops {

struct RotaryTable {
  ConstTensor cos, sin;  // (P, D/2), accumulator dtype: row p holds position p
};
enum class Rotation : bool { forward, inverse };

// Fills cos and sin (P, D/2): factor · cos(p · inverse_frequencies[i]), computed in f64.
void rotary_table(Context&, Tensor cos, Tensor sin, std::span<const double> inverse_frequencies,
                  double factor);
// y (N, H, D) = x rotated to positions (N) i32, each in [0, P). The inverse (transposed) rotation is its
// backward. y may be x itself.
void rotary(Context&, Tensor y, ConstTensor x, RotaryTable, ConstTensor positions, Rotation);

}  // namespace braid::ops
