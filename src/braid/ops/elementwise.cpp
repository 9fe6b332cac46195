#include "braid/ops/elementwise.h"

#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"

namespace braid::ops {

void add(Context& ctx, Tensor y, ConstTensor a, ConstTensor b) {
  const Checker check("add");
  check.tensor("a", a, y.dtype, y.shape);
  check.tensor("b", b, y.dtype, y.shape);
  implementation<&OpTable::add>(ctx)(ctx, y, a, b);
}

void fill(Context& ctx, Tensor t, double value) { implementation<&OpTable::fill>(ctx)(ctx, t, value); }

void copy(Context& ctx, Tensor y, ConstTensor x) {
  const Checker check("copy");
  check.that(y.count() == x.count(), "y is {}, x is {}: counts differ", describe(y), describe(x));
  implementation<&OpTable::copy>(ctx)(ctx, y, x);
}

}  // namespace braid::ops
