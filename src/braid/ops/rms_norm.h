// Root-mean-square norm over the last dimension (Zhang & Sennrich 2019), plain and with a SiLU gate.
#pragma once
#include "braid/core/context.h"
#include "braid/ops/matmul.h"

namespace braid::ops {

struct RmsNormOptions {
  double epsilon = 1e-6;  // inside the square root
  ConstTensor addend{};   // like y, added to it before it is rounded; undefined: none
};

// y (N, C) = x · inverse_rms · weight (C); inverse_rms (N) is written for backward. Weights, their gradients
// and inverse_rms have the accumulator dtype.
void rms_norm_forward(Context&, Tensor y, Tensor inverse_rms, ConstTensor x, ConstTensor weight,
                      RmsNormOptions);

struct RmsNormInputs {
  ConstTensor x, weight, inverse_rms;
};
// dx (N, C) is overwritten, or added to with Accumulate::yes; dweight (C) is added to. dx may be dy itself.
void rms_norm_backward(Context&, Tensor dx, Tensor dweight, ConstTensor dy, RmsNormInputs,
                       Accumulate dx_mode);

// y (N, C) = x · inverse_rms · weight (C) · silu(gate (N, C)): norm first, then gate.
void gated_rms_norm_forward(Context&, Tensor y, Tensor inverse_rms, ConstTensor x, ConstTensor gate,
                            ConstTensor weight, RmsNormOptions);
// Overwrites dx and dgate (N, C), adds into dweight (C).
void gated_rms_norm_backward(Context&, Tensor dx, Tensor dgate, Tensor dweight, ConstTensor dy,
                             ConstTensor gate, RmsNormInputs);

// The same where a product follows: the norms' results of a token, H of them side by side, times out_weight
// (K, H · C) transposed. dy is dout (N / H, K) · out_weight, whose rounding is left to the backend.
void gated_rms_norm_linear_backward(Context&, Tensor dx, Tensor dgate, Tensor dweight, ConstTensor dout,
                                    ConstTensor out_weight, ConstTensor gate, RmsNormInputs);
// The same by matmul and gated_rms_norm_backward, for backends and problems without a kernel of their own.
void gated_rms_norm_linear_backward_in_parts(Context&, Tensor dx, Tensor dgate, Tensor dweight,
                                             ConstTensor dout, ConstTensor out_weight, ConstTensor gate,
                                             RmsNormInputs);

}  // namespace braid::ops
