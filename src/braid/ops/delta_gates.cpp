#include "braid/ops/delta_gates.h"

#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"

namespace braid::ops {
namespace {

void check_gates(const Checker& check, const DeltaGateInputs& in, const ConstTensor& log_decay,
                 const ConstTensor& beta) {
  check.rank("ab", in.ab, 2);
  check.dtype("ab", in.ab, accumulator_of(in.ab.dtype));
  check.rank("a_log", in.a_log, 1);
  const auto tokens = in.ab.shape[0], heads = in.a_log.shape[0];
  check.shape("ab", in.ab, {tokens, 2 * heads});
  check.tensor("a_log", in.a_log, in.ab.dtype, {heads});
  check.tensor("dt_bias", in.dt_bias, in.ab.dtype, {heads});
  check.tensor("log_decay", log_decay, in.ab.dtype, {tokens, heads});
  check.tensor("beta", beta, in.ab.dtype, {tokens, heads});
}

}  // namespace

void delta_gates_forward(Context& ctx, Tensor log_decay, Tensor beta, DeltaGateInputs in,
                         DeltaGateOptions options) {
  check_gates(Checker("delta_gates_forward"), in, log_decay, beta);
  implementation<&OpTable::delta_gates_forward>(ctx)(ctx, log_decay, beta, in, options);
}

void delta_gates_backward(Context& ctx, DeltaGateGradients grads, ConstTensor dlog_decay, ConstTensor dbeta,
                          DeltaGateInputs in, DeltaGateOptions options) {
  const Checker check("delta_gates_backward");
  check_gates(check, in, dlog_decay, dbeta);
  check.shape("dab", grads.ab, in.ab.shape);
  check.that(grads.ab.dtype == in.ab.dtype || grads.ab.dtype == DType::bf16,
             "dab is {}, expected the dtype of ab ({}) or bf16", describe(grads.ab), name_of(in.ab.dtype));
  check.tensor("da_log", grads.a_log, in.ab.dtype, in.a_log.shape);
  check.tensor("ddt_bias", grads.dt_bias, in.ab.dtype, in.dt_bias.shape);
  implementation<&OpTable::delta_gates_backward>(ctx)(ctx, grads, dlog_decay, dbeta, in, options);
}

}  // namespace braid::ops
