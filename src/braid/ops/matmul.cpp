#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"

namespace braid::ops {

void matmul(Context& ctx, Tensor c, ConstTensor a, ConstTensor b, MatmulOptions options) {
  const Checker check("matmul");
  check.rank("a", a, 2);
  check.rank("b", b, 2);
  const bool ta = options.a == Transpose::yes, tb = options.b == Transpose::yes;
  const auto inner_a = a.shape[ta ? 0 : 1], inner_b = b.shape[tb ? 1 : 0];
  check.that(inner_a == inner_b, "inner sizes differ: a {} and b {}", describe(a), describe(b));
  check.shape("c", c, {a.shape[ta ? 1 : 0], b.shape[tb ? 0 : 1]});
  check.that(c.dtype == a.dtype || (c.dtype == DType::f32 && a.dtype == DType::bf16),
             "c is {}, expected the dtype of a ({}), or f32 with bf16", describe(c), name_of(a.dtype));
  check.that(b.dtype == a.dtype || (b.dtype == DType::bf16 && a.dtype == DType::f32),
             "b is {}, expected the dtype of a ({}), or bf16 with f32", describe(b), name_of(a.dtype));
  implementation<&OpTable::matmul>(ctx)(ctx, c, a, b, options);
}

}  // namespace braid::ops
