#pragma once
#include "braid/core/context.h"

namespace braid::ops {

enum class LossGradient : bool { no, yes };
struct CrossEntropyOptions {
  ConstTensor
      scale{};  // (1) f64: weight of each token's loss in the gradient, as 1 / valid tokens; undefined: 1
  double z_loss = 0;  // coefficient of logsumexp², added to the gradient, not to `loss`
  LossGradient gradient = LossGradient::no;
};

// loss (N) = logsumexp(logits) − logits[target]; log_sum_exp (N); both accumulator dtype. targets (N) i32; a
// negative target is ignored: its loss, log_sum_exp and gradient are 0. With a gradient, logits (N, V) are
// replaced by d/dlogits of scale · Σ weight · (loss + z_loss · log_sum_exp²). weights (N) f32 may be
// undefined: all 1. They may be negative, and change the gradient only: `loss` stays each token's own.
void cross_entropy(Context&, Tensor loss, Tensor log_sum_exp, Tensor logits, ConstTensor targets,
                   ConstTensor weights, CrossEntropyOptions);

}  // namespace braid::ops
