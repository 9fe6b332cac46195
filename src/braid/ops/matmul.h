#pragma once
#include "braid/core/context.h"

namespace braid::ops {

enum class Transpose : bool { no, yes };
enum class Accumulate : bool { no, yes };

struct MatmulOptions {
  Transpose a = Transpose::no, b = Transpose::no;  // read that operand transposed
  Accumulate accumulate = Accumulate::no;          // add into c
};

// c (M, N) = a (M, K) · b (K, N), summed in the accumulator dtype. All of one dtype; or bf16 weights b with
// f32 a and c; or bf16 a and b with f32 c (gradients of parameters, logits).
void matmul(Context&, Tensor c, ConstTensor a, ConstTensor b, MatmulOptions options);

}  // namespace braid::ops
