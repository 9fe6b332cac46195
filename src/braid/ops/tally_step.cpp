#include "braid/ops/tally_step.h"

#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"

namespace braid::ops {

void tally_step(Context& ctx, Tensor tally, Tensor clip, StepLosses losses, ConstTensor norm_and_scale,
                ConstTensor scale) {
  const Checker check("tally_step");
  const auto precise = accumulator_of(losses.loss.dtype);
  check.rank("loss", losses.loss, 1);
  check.tensor("loss", losses.loss, precise, losses.loss.shape);
  check.tensor("log_sum_exp", losses.log_sum_exp, precise, losses.loss.shape);
  check.tensor("tally", tally, DType::f64, {kTallyElements});
  check.tensor("clip", clip, precise, {2});
  check.tensor("norm_and_scale", norm_and_scale, precise, {2});
  check.tensor("scale", scale, DType::f64, {1});
  implementation<&OpTable::tally_step>(ctx)(ctx, tally, clip, losses, norm_and_scale, scale);
}

}  // namespace braid::ops
