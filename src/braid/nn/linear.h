// y = x Wᵀ and its two gradients, so that layers read as algebra.
#pragma once
#include "braid/ops/matmul.h"

namespace braid::nn {

// y (N, M) = x (N, K) · weight (M, K)ᵀ
inline void linear(Context& ctx, Tensor y, ConstTensor x, ConstTensor weight) {
  ops::matmul(ctx, y, x, weight, {.b = ops::Transpose::yes});
}

// dx (N, K) = dy (N, M) · weight (M, K), or += with Accumulate::yes; dweight += dyᵀ x.
inline void linear_backward(Context& ctx, Tensor dx, Tensor dweight, ConstTensor dy, ConstTensor x,
                            ConstTensor weight, ops::Accumulate dx_mode = ops::Accumulate::no) {
  ops::matmul(ctx, dx, dy, weight, {.accumulate = dx_mode});
  ops::matmul(ctx, dweight, dy, x, {.a = ops::Transpose::yes, .accumulate = ops::Accumulate::yes});
}

}  // namespace braid::nn
