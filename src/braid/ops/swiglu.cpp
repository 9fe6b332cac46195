#include "braid/ops/swiglu.h"

#include "braid/ops/checks.h"
#include "braid/ops/matmul.h"
#include "braid/ops/op_table.h"

namespace braid::ops {

void swiglu_forward(Context& ctx, Tensor y, ConstTensor gate_up) {
  const Checker check("swiglu_forward");
  check.rank("y", y, 2);
  check.tensor("gate_up", gate_up, y.dtype, {y.shape[0], 2 * y.shape[1]});
  implementation<&OpTable::swiglu_forward>(ctx)(ctx, y, gate_up);
}

void swiglu_backward(Context& ctx, Tensor dgate_up, ConstTensor dy, ConstTensor gate_up) {
  const Checker check("swiglu_backward");
  check.rank("dy", dy, 2);
  check.tensor("gate_up", gate_up, dy.dtype, {dy.shape[0], 2 * dy.shape[1]});
  check.tensor("dgate_up", dgate_up, dy.dtype, gate_up.shape);
  implementation<&OpTable::swiglu_backward>(ctx)(ctx, dgate_up, dy, gate_up);
}

void swiglu_linear(Context& ctx, Tensor y, Tensor gate_up, ConstTensor x, ConstTensor weight) {
  const Checker check("swiglu_linear");
  check.rank("y", y, 2);
  check.rank("x", x, 2);
  check.tensor("x", x, y.dtype, {y.shape[0], x.shape[1]});
  check.rank("weight", weight, 2);
  check.that(weight.shape == Shape{2 * y.shape[1], x.shape[1]}, "weight is {}: expected [{}, {}]",
             describe(weight), 2 * y.shape[1], x.shape[1]);
  if (gate_up.defined()) check.tensor("gate_up", gate_up, y.dtype, {y.shape[0], 2 * y.shape[1]});
  implementation<&OpTable::swiglu_linear>(ctx)(ctx, y, gate_up, x, weight);
}

void swiglu_linear_backward(Context& ctx, Tensor dgate_up, ConstTensor dout, ConstTensor weight,
                            ConstTensor gate_up) {
  const Checker check("swiglu_linear_backward");
  check.rank("dout", dout, 2);
  check.rank("weight", weight, 2);
  check.that(weight.shape[0] == dout.shape[1], "weight is {}: expected [{}, F]", describe(weight),
             dout.shape[1]);
  check.tensor("gate_up", gate_up, dout.dtype, {dout.shape[0], 2 * weight.shape[1]});
  check.tensor("dgate_up", dgate_up, dout.dtype, gate_up.shape);
  implementation<&OpTable::swiglu_linear_backward>(ctx)(ctx, dgate_up, dout, weight, gate_up);
}

void swiglu_linear_in_parts(Context& ctx, Tensor y, Tensor gate_up, ConstTensor x, ConstTensor weight) {
  const Arena::Scope scope(*ctx.scratch);
  if (!gate_up.defined()) gate_up = ctx.scratch->make(y.dtype, {y.shape[0], weight.shape[0]});
  matmul(ctx, gate_up, x, weight, {.b = Transpose::yes});
  swiglu_forward(ctx, y, gate_up);
}

void swiglu_linear_backward_in_parts(Context& ctx, Tensor dgate_up, ConstTensor dout, ConstTensor weight,
                                     ConstTensor gate_up) {
  const Arena::Scope scope(*ctx.scratch);
  const Tensor dhidden = ctx.scratch->make(dout.dtype, {dout.shape[0], weight.shape[1]});
  matmul(ctx, dhidden, dout, weight, {});
  swiglu_backward(ctx, dgate_up, dhidden, gate_up);
}

}  // namespace braid::ops
