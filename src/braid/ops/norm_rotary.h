// The norm of whole query and key projections and the rotation of their heads, in one pass over memory.
#pragma once
#include <optional>

#include "braid/core/context.h"
#include "braid/ops/rotary.h"

namespace braid::ops {

struct NormRotaryPart {
  Tensor y;            // (N, H, D)
  Tensor inverse_rms;  // (N), for rms_norm_backward
  ConstTensor x;       // (N, H · D)
  ConstTensor weight;  // (H · D)
};
inline constexpr std::size_t kMostNormRotaryParts = 2;

// y = x · inverse_rms · weight, its heads rotated to positions (N) i32: rms_norm_forward, then rotary, with
// no rounding between them where a backend has a kernel of its own. Without a table nothing is rotated. Parts
// share N and D; H may differ. Dtypes as in rms_norm_forward and rotary.
void norm_rotary_forward(Context&, std::span<const NormRotaryPart>, const std::optional<RotaryTable>&,
                         ConstTensor positions, double epsilon);
// The same by those two ops.
void norm_rotary_forward_in_parts(Context&, std::span<const NormRotaryPart>,
                                  const std::optional<RotaryTable>&, ConstTensor positions, double epsilon);

}  // namespace braid::ops
