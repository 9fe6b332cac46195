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
  if (options.addend.defined()) {
    check.tensor("addend", options.addend, c.dtype, c.shape);
    check.that(options.accumulate == Accumulate::no, "an addend and accumulate exclude each other");
  }
  implementation<&OpTable::matmul>(ctx)(ctx, c, a, b, options);
}

void linear_group(Context& ctx, std::span<const LinearPart> parts, ConstTensor x) {
  const Checker check("linear_group");
  check.rank("x", x, 2);
  check.that(!parts.empty() && parts.size() <= kMostLinearParts, "{} parts, expected 1 to {}", parts.size(),
             kMostLinearParts);
  for (const auto& [y, weight] : parts) {
    check.rank("weight", weight, 2);
    check.that(weight.shape[1] == x.shape[1], "inner sizes differ: x {} and weight {}", describe(x),
               describe(weight));
    check.shape("y", y, {x.shape[0], weight.shape[0]});
    check.that(y.dtype == x.dtype || (y.dtype == DType::f32 && x.dtype == DType::bf16),
               "y is {}, expected the dtype of x ({}), or f32 with bf16", describe(y), name_of(x.dtype));
    check.that(weight.dtype == x.dtype || (weight.dtype == DType::bf16 && x.dtype == DType::f32),
               "weight is {}, expected the dtype of x ({}), or bf16 with f32", describe(weight),
               name_of(x.dtype));
  }
  implementation<&OpTable::linear_group>(ctx)(ctx, parts, x);
}

}  // namespace braid::ops
