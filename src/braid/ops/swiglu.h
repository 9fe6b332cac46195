#pragma once
#include "braid/core/context.h"

namespace braid::ops {

// y (N, F) = silu(gate) ⊙ up, where gate_up (N, 2F) holds gate then up (Shazeer 2020).
void swiglu_forward(Context&, Tensor y, ConstTensor gate_up);
// Overwrites dgate_up (N, 2F), which may be gate_up itself.
void swiglu_backward(Context&, Tensor dgate_up, ConstTensor dy, ConstTensor gate_up);

}  // namespace braid::ops
