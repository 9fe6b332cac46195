#pragma once
#include "braid/core/context.h"

namespace braid::ops {

// y (N, F) = silu(gate) ⊙ up, where gate_up (N, 2F) holds gate then up (Shazeer 2020).
void swiglu_forward(Context&, Tensor y, ConstTensor gate_up);
// Overwrites dgate_up (N, 2F), which may be gate_up itself.
void swiglu_backward(Context&, Tensor dgate_up, ConstTensor dy, ConstTensor gate_up);

// y (N, F) = silu(x · gateᵀ) ⊙ (x · upᵀ) of x (N, K), where weight (2F, K) holds gate then up; both products
// are rounded to y's dtype before they meet. For where no backward follows.
void swiglu_linear(Context&, Tensor y, ConstTensor x, ConstTensor weight);
// The same by matmul and swiglu_forward, for backends and problems without a kernel of their own.
void swiglu_linear_in_parts(Context&, Tensor y, ConstTensor x, ConstTensor weight);

}  // namespace braid::ops
