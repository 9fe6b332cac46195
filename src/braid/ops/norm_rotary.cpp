#include "braid/ops/norm_rotary.h"

#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"
#include "braid/ops/rms_norm.h"

namespace braid::ops {

void norm_rotary_forward(Context& ctx, std::span<const NormRotaryPart> parts,
                         const std::optional<RotaryTable>& table, ConstTensor positions, double epsilon) {
  const Checker check("norm_rotary_forward");
  check.that(!parts.empty() && parts.size() <= kMostNormRotaryParts, "{} parts: expected 1 to {}",
             parts.size(), kMostNormRotaryParts);
  const Tensor& first = parts.front().y;
  check.rank("y", first, 3);
  for (const auto& part : parts) {
    check.rank("y", part.y, 3);
    check.tensor("y", part.y, first.dtype, {first.shape[0], part.y.shape[1], first.shape[2]});
    const auto width = part.y.shape[1] * part.y.shape[2];
    check.tensor("x", part.x, first.dtype, {first.shape[0], width});
    check.tensor("weight", part.weight, accumulator_of(first.dtype), {width});
    check.tensor("inverse_rms", part.inverse_rms, accumulator_of(first.dtype), {first.shape[0]});
  }
  if (table) {
    check.that(first.shape[2] % 2 == 0, "head width {} is odd", first.shape[2]);
    check.tensor("table.cos", table->cos, accumulator_of(first.dtype),
                 {table->cos.shape[0], first.shape[2] / 2});
    check.tensor("table.sin", table->sin, accumulator_of(first.dtype), table->cos.shape);
    check.tensor("positions", positions, DType::i32, {first.shape[0]});
  }
  implementation<&OpTable::norm_rotary_forward>(ctx)(ctx, parts, table, positions, epsilon);
}

void norm_rotary_forward_in_parts(Context& ctx, std::span<const NormRotaryPart> parts,
                                  const std::optional<RotaryTable>& table, ConstTensor positions,
                                  double epsilon) {
  for (const auto& [y, inverse_rms, x, weight] : parts) {
    rms_norm_forward(ctx, reshaped(y, x.shape), inverse_rms, x, weight, {.epsilon = epsilon});
    if (table) rotary(ctx, y, y, *table, positions, Rotation::forward);
  }
}

}  // namespace braid::ops
