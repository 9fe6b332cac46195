#pragma once
#include "braid/core/context.h"

namespace braid::ops {

// result (2), accumulator dtype: [global L2 norm of the gradients, min(1, max_norm / norm)]. max_norm 0: no
// clipping. Where the norm is not finite, both are NaN.
void gradient_norm(Context&, Tensor result, ConstTensor gradients, double max_norm);

struct AdamWState {
  Tensor parameters, first_moment, second_moment;  // one shape, f32 or f64
  Tensor copy{};  // the parameters in bf16, written in the same pass; undefined: none
};
struct AdamWOptions {
  double learning_rate = 3e-4, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.1;
  std::int64_t step = 1;  // counts from 1
};
// Decoupled weight decay (Loshchilov & Hutter 2019). The gradient is first multiplied by norm_and_scale[1],
// as gradient_norm() leaves it; undefined: by one. Where that is NaN, nothing is changed.
void adamw(Context&, AdamWState, ConstTensor gradients, ConstTensor norm_and_scale, AdamWOptions);

}  // namespace braid::ops
