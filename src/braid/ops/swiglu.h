#pragma once
#include "braid/core/context.h"

namespace braid::ops {

// y (N, F) = silu(gate) ⊙ up, where gate_up (N, 2F) holds gate then up (Shazeer 2020).
void swiglu_forward(Context&, Tensor y, ConstTensor gate_up);
// Overwrites dgate_up (N, 2F), which may be gate_up itself.
void swiglu_backward(Context&, Tensor dgate_up, ConstTensor dy, ConstTensor gate_up);

// y (N, F) = silu(x · gateᵀ) ⊙ (x · upᵀ) of x (N, K), where weight (2F, K) holds gate then up; both products
// are rounded to y's dtype before they meet, and kept in gate_up (N, 2F) unless it is undefined.
void swiglu_linear(Context&, Tensor y, Tensor gate_up, ConstTensor x, ConstTensor weight);
// Overwrites dgate_up (N, 2F), which may be gate_up itself, where a product follows, out = y · weightᵀ with
// weight (K, F): swiglu_backward of dout (N, K) · weight, whose rounding to dout's dtype is left to the
// backend.
void swiglu_linear_backward(Context&, Tensor dgate_up, ConstTensor dout, ConstTensor weight,
                            ConstTensor gate_up);
// The same by matmul and swiglu, for backends and problems without a kernel of their own.
void swiglu_linear_in_parts(Context&, Tensor y, Tensor gate_up, ConstTensor x, ConstTensor weight);
void swiglu_linear_backward_in_parts(Context&, Tensor dgate_up, ConstTensor dout, ConstTensor weight,
                                     ConstTensor gate_up);

}  // namespace braid::ops
