#include "braid/ops/swiglu.h"

#include "braid/ops/checks.h"
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

}  // namespace braid::ops
