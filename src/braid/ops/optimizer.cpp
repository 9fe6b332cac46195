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

void adamw(Context& ctx, std::span<const AdamWPart> parts, ConstTensor norm_and_scale, ConstTensor rates,
           AdamWOptions options) {
  const Checker check("adamw");
  check.tensor("rates", rates, DType::f64, {3});
  for (const auto& part : parts) {
    const auto& like = part.parameters;
    check.that(like.dtype == parts.front().parameters.dtype, "parameters is {}, the first part {}",
               describe(like), describe(parts.front().parameters));
    check.tensor("gradients", part.gradients, like.dtype, like.shape);
    check.tensor("first_moment", part.first_moment, like.dtype, like.shape);
    check.tensor("second_moment", part.second_moment, like.dtype, like.shape);
    if (part.copy.defined()) check.tensor("copy", part.copy, DType::bf16, like.shape);
    if (norm_and_scale.defined())
      check.tensor("norm_and_scale", norm_and_scale, accumulator_of(like.dtype), {2});
  }
  implementation<&OpTable::adamw>(ctx)(ctx, parts, norm_and_scale, rates, options);
}

}  // namespace braid::ops
