#include "braid/ops/cross_entropy.h"

#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"

namespace braid::ops {

void cross_entropy(Context& ctx, Tensor loss, Tensor log_sum_exp, Tensor logits, ConstTensor targets,
                   ConstTensor weights, CrossEntropyOptions options) {
  const Checker check("cross_entropy");
  check.rank("logits", logits, 2);
  const Shape per_token{logits.shape[0]};
  check.tensor("loss", loss, accumulator_of(logits.dtype), per_token);
  check.tensor("log_sum_exp", log_sum_exp, accumulator_of(logits.dtype), per_token);
  check.tensor("targets", targets, DType::i32, per_token);
  if (weights.defined()) check.tensor("weights", weights, DType::f32, per_token);
  if (options.scale.defined()) check.tensor("scale", options.scale, DType::f64, {1});
  implementation<&OpTable::cross_entropy>(ctx)(ctx, loss, log_sum_exp, logits, targets, weights, options);
}

}  // namespace braid::ops
