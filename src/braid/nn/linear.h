// y = x Wᵀ and its two gradients, so that layers read as algebra.
#pragma once
#include "braid/ops/matmul.h"

namespace braid::nn {

// Where a layer's result goes, and what is added to it on the way (undefined: nothing): the residual.
struct Output {
  Output(Tensor to, ConstTensor and_add = {}) : y(to), addend(and_add) {}
  Tensor y;
  ConstTensor addend;
};

// y (N, M) = x (N, K) · weight (M, K)ᵀ + addend
inline void linear(Context& ctx, Output out, ConstTensor x, ConstTensor weight) {
  ops::matmul(ctx, out.y, x, weight, {.b = ops::Transpose::yes, .addend = out.addend});
}

// dweight (M, K) += dy (N, M)ᵀ x (N, K)
inline void weight_backward(Context& ctx, Tensor dweight, ConstTensor dy, ConstTensor x) {
  ops::matmul(ctx, dweight, dy, x, {.a = ops::Transpose::yes, .accumulate = ops::Accumulate::yes});
}

// dx (N, K) = dy (N, M) · weight (M, K), or += with Accumulate::yes; dweight as above.
inline void linear_backward(Context& ctx, Tensor dx, Tensor dweight, ConstTensor dy, ConstTensor x,
                            ConstTensor weight, ops::Accumulate dx_mode = ops::Accumulate::no) {
  ops::matmul(ctx, dx, dy, weight, {.accumulate = dx_mode});
  weight_backward(ctx, dweight, dy, x);
}

}  // namespace braid::nn
