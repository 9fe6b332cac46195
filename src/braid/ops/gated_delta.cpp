#include "braid/ops/gated_delta.h"

#include "braid/ops/checks.h"
#include "braid/ops/op_table.h"

namespace braid::ops {
namespace {

Shape state_shape(const GatedDeltaInputs& in, const Segments& segments) {
  return {segments.count(), in.v.shape[1], in.k.shape[2], in.v.shape[2]};
}

void check_inputs(const Checker& check, const GatedDeltaInputs& in, const Segments& segments) {
  check.floating("q", in.q);
  check.rank("q", in.q, 3);
  check.rank("v", in.v, 3);
  const auto tokens = in.q.shape[0], heads = in.v.shape[1];
  check.tensor("k", in.k, in.q.dtype, in.q.shape);
  check.tensor("v", in.v, in.q.dtype, {tokens, heads, in.v.shape[2]});
  check.that(in.q.shape[1] > 0 && heads % in.q.shape[1] == 0,
             "{} value heads cannot share {} key heads evenly", heads, in.q.shape[1]);
  check.tensor("log_decay", in.log_decay, accumulator_of(in.q.dtype), {tokens, heads});
  check.tensor("beta", in.beta, accumulator_of(in.q.dtype), {tokens, heads});
  check.rank("segments.offsets", segments.offsets, 1);
  check.dtype("segments.offsets", segments.offsets, DType::i32);
}

// An optional tensor: fine when undefined.
void check_optional(const Checker& check, std::string_view name, const ConstTensor& t,
                    const ConstTensor& like, const Shape& shape) {
  if (t.defined()) check.tensor(name, t, accumulator_of(like.dtype), shape);
}

}  // namespace

Shape gated_delta_checkpoint_shape(const GatedDeltaInputs& in, const Segments& segments) {
  return {in.v.shape[0] / kDeltaChunk + segments.count(), in.v.shape[1], in.k.shape[2], in.v.shape[2]};
}

void gated_delta_forward(Context& ctx, Tensor y, Tensor checkpoints, GatedDeltaStates states,
                         GatedDeltaInputs in, Segments segments, GatedDeltaOptions options) {
  const Checker check("gated_delta_forward");
  check_inputs(check, in, segments);
  check.tensor("y", y, in.v.dtype, in.v.shape);
  if (checkpoints.defined()) {
    check.tensor("checkpoints", checkpoints, in.v.dtype, gated_delta_checkpoint_shape(in, segments));
  }
  check_optional(check, "initial state", states.initial, in.v, state_shape(in, segments));
  check_optional(check, "final state", states.final, in.v, state_shape(in, segments));
  implementation<&OpTable::gated_delta_forward>(ctx)(ctx, y, checkpoints, states, in, segments, options);
}

void gated_delta_backward(Context& ctx, GatedDeltaGradients grads, GatedDeltaStateGradients state_grads,
                          ConstTensor dy, GatedDeltaInputs in, GatedDeltaSaved saved, Segments segments,
                          GatedDeltaOptions options) {
  const Checker check("gated_delta_backward");
  check_inputs(check, in, segments);
  check.tensor("dy", dy, in.v.dtype, in.v.shape);
  check.tensor("dq", grads.q, in.q.dtype, in.q.shape);
  check.tensor("dk", grads.k, in.k.dtype, in.k.shape);
  check.tensor("dv", grads.v, in.v.dtype, in.v.shape);
  check.tensor("dlog_decay", grads.log_decay, in.log_decay.dtype, in.log_decay.shape);
  check.tensor("dbeta", grads.beta, in.beta.dtype, in.beta.shape);
  check.tensor("checkpoints", saved.checkpoints, in.v.dtype, gated_delta_checkpoint_shape(in, segments));
  check_optional(check, "initial state", saved.initial, in.v, state_shape(in, segments));
  check_optional(check, "dinitial state", state_grads.initial, in.v, state_shape(in, segments));
  check_optional(check, "dfinal state", state_grads.final, in.v, state_shape(in, segments));
  implementation<&OpTable::gated_delta_backward>(ctx)(ctx, grads, state_grads, dy, in, saved, segments,
                                                      options);
}

}  // namespace braid::ops
