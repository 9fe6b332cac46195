#include "braid/ops/optimizer.h"

#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"

namespace braid::ops {

void gradient_norm(Context& ctx, Tensor result, ConstTensor gradients, double max_norm) {
  const Checker check("gradient_norm");
  check.tensor("result", result, accumulator_of(gradients.dtype), {2});
  check.that(max_norm >= 0, "max_norm {} is negative", max_norm);
  implementation<&OpTable::gradient_norm>(ctx)(ctx, result, gradients, max_norm);
}

void adamw(Context& ctx, AdamWState state, ConstTensor gradients, ConstTensor norm_and_scale,
           AdamWOptions options) {
  const Checker check("adamw");
  const auto& like = state.parameters;
  check.tensor("gradients", gradients, like.dtype, like.shape);
  check.tensor("first_moment", state.first_moment, like.dtype, like.shape);
  check.tensor("second_moment", state.second_moment, like.dtype, like.shape);
  if (state.copy.defined()) check.tensor("copy", state.copy, DType::bf16, like.shape);
  if (norm_and_scale.defined())
    check.tensor("norm_and_scale", norm_and_scale, accumulator_of(like.dtype), {2});
  check.that(options.step >= 1, "step {} must count from 1", options.step);
  implementation<&OpTable::adamw>(ctx)(ctx, state, gradients, norm_and_scale, options);
}

}  // namespace braid::ops
