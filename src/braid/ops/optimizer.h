#pragma once
#include <cmath>
#include <span>

#include "braid/core/context.h"

namespace braid::ops {

// result (2), accumulator dtype: [global L2 norm of the gradients, min(1, max_norm / norm)]. max_norm 0: no
// clipping. Where the norm is not finite, both are NaN.
void gradient_norm(Context&, Tensor result, ConstTensor gradients, double max_norm);

// One of the tensors that an update goes over.
struct AdamWPart {
  Tensor parameters, first_moment, second_moment;  // one shape, f32 or f64
  ConstTensor gradients;                           // the same
  Tensor copy{};  // the parameters in bf16, written in the same pass; undefined: none
  double weight_decay = 0;
};
struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
};

// What changes from update to update.
struct AdamWRates {
  double learning_rate, correction1, correction2;  // the latter 1 − beta^t
  // Of update t, counted from 1.
  static AdamWRates of(double learning_rate, std::int64_t t, const AdamWOptions& options) {
    const auto n = static_cast<double>(t);
    return {learning_rate, 1 - std::pow(options.beta1, n), 1 - std::pow(options.beta2, n)};
  }
};

// Decoupled weight decay (Loshchilov & Hutter 2019), over any number of parts of one dtype. rates (3) f64:
// the members of AdamWRates. The gradient is first multiplied by norm_and_scale[1], as gradient_norm() leaves
// it; undefined: by one. Where that is NaN, nothing is changed.
void adamw(Context&, std::span<const AdamWPart> parts, ConstTensor norm_and_scale, ConstTensor rates,
           AdamWOptions);

}  // namespace braid::ops
