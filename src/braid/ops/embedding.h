#pragma once
#include "braid/core/context.h"

namespace braid::ops {

// y (N, C) = table (V, C) rows at ids (N) i32, all in [0, V). The table may be bf16 with f32 y.
void embedding_forward(Context&, Tensor y, ConstTensor ids, ConstTensor table);
// Adds into dtable (V, C), accumulator dtype, in token order.
void embedding_backward(Context&, Tensor dtable, ConstTensor dy, ConstTensor ids);

}  // namespace braid::ops
