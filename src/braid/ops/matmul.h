#pragma once
#include <span>

#include "braid/core/context.h"

namespace braid::ops {

enum class Transpose : bool { no, yes };
enum class Accumulate : bool { no, yes };

struct MatmulOptions {
  Transpose a = Transpose::no, b = Transpose::no;  // read that operand transposed
  Accumulate accumulate = Accumulate::no;          // add into c
  ConstTensor addend{};  // like c, added to the product before it is rounded; undefined: none
};

// c (M, N) = a (M, K) · b (K, N), summed in the accumulator dtype. All of one dtype; or bf16 weights b with
// f32 a and c; or bf16 a and b with f32 c (gradients of parameters, logits).
void matmul(Context&, Tensor c, ConstTensor a, ConstTensor b, MatmulOptions options);

// y (N, M) and weight (M, K) of one of several products of the same x (N, K).
struct LinearPart {
  Tensor y;
  ConstTensor weight;
};
inline constexpr std::size_t kMostLinearParts = 4;

// y = x · weightᵀ for every part, dtypes as in matmul; a backend may read x and its own memory once for all.
void linear_group(Context&, std::span<const LinearPart> parts, ConstTensor x);

}  // namespace braid::ops
