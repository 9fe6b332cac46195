#pragma once
#include "braid/core/context.h"

namespace braid::ops {

enum class Transpose : bool { no, yes };
enum class Accumulate : bool { no, yes };

struct MatmulOptions {
  Transpose a = Transpose::no, b = Transpose::no;  // read that operand transposed
  Accumulate accumulate = Accumulate::no;          // add into c
};

// c (M, N) = a (M, K) · b (K, N). a and c have one dtype (f32 or f64); b the same, or bf16 weights with f32
// a.
void matmul(Context&, Tensor c, ConstTensor a, ConstTensor b, MatmulOptions options);

}  // namespace braid::ops
