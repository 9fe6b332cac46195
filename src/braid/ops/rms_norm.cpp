#include "braid/ops/rms_norm.h"

#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"

namespace braid::ops {
namespace {

void check_norm(const Checker& check, const ConstTensor& x, const ConstTensor& weight,
                const ConstTensor& inverse_rms) {
  check.rank("x", x, 2);
  check.tensor("weight", weight, accumulator_of(x.dtype), {x.shape[1]});
  check.tensor("inverse_rms", inverse_rms, accumulator_of(x.dtype), {x.shape[0]});
}

void check_gated_backward(const Checker& check, const ConstTensor& dx, const ConstTensor& dgate,
                          const ConstTensor& dweight, const ConstTensor& gate, const RmsNormInputs& in) {
  check_norm(check, in.x, in.weight, in.inverse_rms);
  check.tensor("dx", dx, in.x.dtype, in.x.shape);
  check.tensor("dgate", dgate, in.x.dtype, in.x.shape);
  check.tensor("gate", gate, in.x.dtype, in.x.shape);
  check.tensor("dweight", dweight, in.weight.dtype, in.weight.shape);
}

}  // namespace

void rms_norm_forward(Context& ctx, Tensor y, Tensor inverse_rms, ConstTensor x, ConstTensor weight,
                      RmsNormOptions options) {
  const Checker check("rms_norm_forward");
  check_norm(check, x, weight, inverse_rms);
  check.tensor("y", y, x.dtype, x.shape);
  if (options.addend.defined()) check.tensor("addend", options.addend, x.dtype, x.shape);
  implementation<&OpTable::rms_norm_forward>(ctx)(ctx, y, inverse_rms, x, weight, options);
}

void rms_norm_backward(Context& ctx, Tensor dx, Tensor dweight, ConstTensor dy, RmsNormInputs in,
                       Accumulate dx_mode) {
  const Checker check("rms_norm_backward");
  check_norm(check, in.x, in.weight, in.inverse_rms);
  check.tensor("dx", dx, in.x.dtype, in.x.shape);
  check.tensor("dy", dy, in.x.dtype, in.x.shape);
  check.tensor("dweight", dweight, in.weight.dtype, in.weight.shape);
  implementation<&OpTable::rms_norm_backward>(ctx)(ctx, dx, dweight, dy, in, dx_mode);
}

void gated_rms_norm_forward(Context& ctx, Tensor y, Tensor inverse_rms, ConstTensor x, ConstTensor gate,
                            ConstTensor weight, RmsNormOptions options) {
  const Checker check("gated_rms_norm_forward");
  check_norm(check, x, weight, inverse_rms);
  check.tensor("y", y, x.dtype, x.shape);
  if (options.addend.defined()) check.tensor("addend", options.addend, x.dtype, x.shape);
  check.tensor("gate", gate, x.dtype, x.shape);
  implementation<&OpTable::gated_rms_norm_forward>(ctx)(ctx, y, inverse_rms, x, gate, weight, options);
}

void gated_rms_norm_backward(Context& ctx, Tensor dx, Tensor dgate, Tensor dweight, ConstTensor dy,
                             ConstTensor gate, RmsNormInputs in) {
  const Checker check("gated_rms_norm_backward");
  check_gated_backward(check, dx, dgate, dweight, gate, in);
  check.tensor("dy", dy, in.x.dtype, in.x.shape);
  implementation<&OpTable::gated_rms_norm_backward>(ctx)(ctx, dx, dgate, dweight, dy, gate, in);
}

void gated_rms_norm_linear_backward(Context& ctx, Tensor dx, Tensor dgate, Tensor dweight, ConstTensor dout,
                                    ConstTensor out_weight, ConstTensor gate, RmsNormInputs in) {
  const Checker check("gated_rms_norm_linear_backward");
  check_gated_backward(check, dx, dgate, dweight, gate, in);
  check.rank("dout", dout, 2);
  check.dtype("dout", dout, in.x.dtype);
  check.rank("out_weight", out_weight, 2);
  const auto wide = out_weight.shape[1], width = in.x.shape[1];
  check.that(out_weight.shape[0] == dout.shape[1] && (width == 0 || wide % width == 0) &&
                 dout.shape[0] * wide == in.x.shape[0] * width,
             "out_weight is {}: expected [{}, H * {}] with dout {} and x {}", describe(out_weight),
             dout.shape[1], width, describe(dout), describe(in.x));
  implementation<&OpTable::gated_rms_norm_linear_backward>(ctx)(ctx, dx, dgate, dweight, dout, out_weight,
                                                                gate, in);
}

void gated_rms_norm_linear_backward_in_parts(Context& ctx, Tensor dx, Tensor dgate, Tensor dweight,
                                             ConstTensor dout, ConstTensor out_weight, ConstTensor gate,
                                             RmsNormInputs in) {
  const Arena::Scope scope(*ctx.scratch);
  const Tensor dy = ctx.scratch->make(dout.dtype, {dout.shape[0], out_weight.shape[1]});
  matmul(ctx, dy, dout, out_weight, {});
  gated_rms_norm_backward(ctx, dx, dgate, dweight, reshaped(dy, in.x.shape), gate, in);
}

}  // namespace braid::ops
