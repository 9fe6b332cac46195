// Short causal depthwise convolution, then SiLU, then a split into q, k and v (Gated DeltaNet's input
// mixing).
#pragma once
#include "braid/core/context.h"
#include "braid/ops/segments.h"

namespace braid::ops {

struct QkvOutputs {
  Tensor q, k, v;  // (N, Cq), (N, Ck), (N, Cv)
};
struct QkvInputs {
  ConstTensor q, k, v;
};

// [q | k | v] = silu(conv(x)), x (N, C) with C = Cq + Ck + Cv, weight (C, W), accumulator dtype: tap W - 1
// meets the token itself. `state` (S, W - 1, C), or undefined: the W - 1 inputs before each segment, oldest
// first; replaced by the last W - 1 inputs after it. Undefined: zeros before, nothing written. A segment of
// length one is a decode step.
void short_convolution_forward(Context&, QkvOutputs, Tensor state, ConstTensor x, ConstTensor weight,
                               Segments);
// Overwrites dx (N, C), adds into dweight (C, W). For segments that began with a zero state.
void short_convolution_backward(Context&, Tensor dx, Tensor dweight, QkvInputs dqkv, ConstTensor x,
                                ConstTensor weight, Segments);

}  // namespace braid::ops
