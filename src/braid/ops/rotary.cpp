#include "braid/ops/rotary.h"

#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"

namespace braid::ops {

void rotary_table(Context& ctx, Tensor cos, Tensor sin, std::span<const double> inverse_frequencies,
                  double factor) {
  const Checker check("rotary_table");
  check.rank("cos", cos, 2);
  check.shape("cos", cos, {cos.shape[0], static_cast<std::int64_t>(inverse_frequencies.size())});
  check.tensor("sin", sin, cos.dtype, cos.shape);
  implementation<&OpTable::rotary_table>(ctx)(ctx, cos, sin, inverse_frequencies, factor);
}

void rotary(Context& ctx, Tensor y, ConstTensor x, RotaryTable table, ConstTensor positions,
            Rotation rotation) {
  const Checker check("rotary");
  check.rank("x", x, 3);
  check.that(x.shape[2] % 2 == 0, "head width {} is odd", x.shape[2]);
  check.tensor("y", y, x.dtype, x.shape);
  check.tensor("table.cos", table.cos, accumulator_of(x.dtype), {table.cos.shape[0], x.shape[2] / 2});
  check.tensor("table.sin", table.sin, accumulator_of(x.dtype), table.cos.shape);
  check.tensor("positions", positions, DType::i32, {x.shape[0]});
  implementation<&OpTable::rotary>(ctx)(ctx, y, x, table, positions, rotation);
}

}  // namespace braid::ops
