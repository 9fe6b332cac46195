#include "braid/nn/gated_delta_net.h"

#include "braid/nn/linear.h"
#include "braid/ops/delta_gates.h"
#include "braid/ops/rms_norm.h"
#include "braid/ops/short_convolution.h"

namespace braid::nn {
namespace {

Tensor flat(const Tensor& t) { return reshaped(t, {t.shape[0], t.shape[1] * t.shape[2]}); }
Tensor per_head(const Tensor& t) { return reshaped(t, {t.shape[0] * t.shape[1], t.shape[2]}); }

ops::GatedDeltaInputs delta_inputs(const GatedDeltaNet::Saved& s) {
  return {s.q, s.k, s.v, s.log_decay, s.beta};
}
ops::DeltaGateInputs gate_inputs(const GatedDeltaNet::Saved& s, const GatedDeltaNet::Params& p) {
  return {s.ab, p.a_log, p.dt_bias};
}

// Projections, convolution and gates: everything before the recurrence. `convolution` may be undefined.
GatedDeltaNet::Saved project(Context& ctx, Arena& saved, Tensor convolution, ConstTensor x,
                             const GatedDeltaNet::Params& p, const GatedDeltaNet::Policy& policy,
                             const ops::Segments& segments) {
  const auto n = x.shape[0], heads = policy.value_heads;
  const auto precise = accumulator_of(x.dtype);
  GatedDeltaNet::Saved s{.x = x,
                         .projected = saved.make(x.dtype, {n, p.qkv.shape[0]}),
                         .q = saved.make(x.dtype, {n, policy.key_heads, policy.key_dim}),
                         .k = saved.make(x.dtype, {n, policy.key_heads, policy.key_dim}),
                         .v = saved.make(x.dtype, {n, heads, policy.value_dim}),
                         .gate = {},
                         .ab = saved.make(precise, {n, 2 * heads}),
                         .log_decay = saved.make(precise, {n, heads}),
                         .beta = saved.make(precise, {n, heads}),
                         .checkpoints = {},
                         .y = saved.make(x.dtype, {n, heads, policy.value_dim}),
                         .inverse_rms = saved.make(precise, {n * heads}),
                         .normed = saved.make(x.dtype, {n * heads, policy.value_dim})};
  linear(ctx, s.projected, x, p.qkv);
  linear(ctx, s.ab, x, p.ab);
  if (p.gate.defined()) {
    s.gate = saved.make(x.dtype, {n, p.gate.shape[0]});
    linear(ctx, s.gate, x, p.gate);
  }
  ops::short_convolution_forward(ctx, {flat(s.q), flat(s.k), flat(s.v)}, convolution, s.projected,
                                 p.convolution, segments);
  ops::delta_gates_forward(ctx, s.log_decay, s.beta, gate_inputs(s, p), {.beta_scale = policy.beta_scale});
  return s;
}

// Output norm, gate and projection.
void finish(Context& ctx, Tensor y, const GatedDeltaNet::Saved& s, const GatedDeltaNet::Params& p,
            const GatedDeltaNet::Policy& policy) {
  const ops::RmsNormOptions norm{.epsilon = policy.norm_epsilon};
  if (s.gate.defined()) {
    ops::gated_rms_norm_forward(ctx, s.normed, s.inverse_rms, per_head(s.y), reshaped(s.gate, s.normed.shape),
                                p.o_norm, norm);
  } else {
    ops::rms_norm_forward(ctx, s.normed, s.inverse_rms, per_head(s.y), p.o_norm, norm);
  }
  linear(ctx, y, reshaped(s.normed, {y.shape[0], p.o.shape[1]}), p.o);
}

}  // namespace

GatedDeltaNet::Saved GatedDeltaNet::forward(Context& ctx, Arena& saved, Tensor y, ConstTensor x,
                                            const Params& p, const Policy& policy,
                                            const ops::Segments& segments) {
  Saved s = project(ctx, saved, Tensor{}, x, p, policy, segments);
  s.checkpoints = saved.make(x.dtype, ops::gated_delta_checkpoint_shape(delta_inputs(s), segments));
  ops::gated_delta_forward(ctx, s.y, s.checkpoints, {}, delta_inputs(s), segments, {});
  finish(ctx, y, s, p, policy);
  return s;
}

void GatedDeltaNet::backward(Context& ctx, Tensor dx, const Params& grads, ConstTensor dy, const Params& p,
                             const Policy& policy, const ops::Segments& segments, const Saved& s) {
  Arena::Scope scope(*ctx.scratch);
  Arena& scratch = *ctx.scratch;
  const auto n = s.x.shape[0];
  const Tensor dnormed = scratch.make(dx.dtype, s.normed.shape);
  const Tensor dmixed = scratch.make(dx.dtype, s.y.shape);
  const Shape wide{n, p.o.shape[1]};
  linear_backward(ctx, reshaped(dnormed, wide), grads.o, dy, reshaped(s.normed, wide), p.o);
  const ops::RmsNormInputs norm{per_head(s.y), p.o_norm, s.inverse_rms};
  if (s.gate.defined()) {
    const Tensor dgate = scratch.make(dx.dtype, s.normed.shape);
    ops::gated_rms_norm_backward(ctx, per_head(dmixed), dgate, grads.o_norm, dnormed,
                                 reshaped(s.gate, s.normed.shape), norm);
    linear_backward(ctx, dx, grads.gate, reshaped(dgate, wide), s.x, p.gate);
  } else {
    ops::rms_norm_backward(ctx, per_head(dmixed), grads.o_norm, dnormed, norm, ops::Accumulate::no);
  }
  const ops::GatedDeltaGradients d{
      scratch.make(dx.dtype, s.q.shape), scratch.make(dx.dtype, s.k.shape), scratch.make(dx.dtype, s.v.shape),
      scratch.make(s.beta.dtype, s.beta.shape), scratch.make(s.beta.dtype, s.beta.shape)};
  ops::gated_delta_backward(ctx, d, {}, dmixed, delta_inputs(s), {s.checkpoints, {}}, segments, {});
  const Tensor dab = scratch.make(dx.dtype, s.ab.shape),
               dprojected = scratch.make(dx.dtype, s.projected.shape);
  ops::delta_gates_backward(ctx, {dab, grads.a_log, grads.dt_bias}, d.log_decay, d.beta, gate_inputs(s, p),
                            {.beta_scale = policy.beta_scale});
  ops::short_convolution_backward(ctx, dprojected, grads.convolution, {flat(d.q), flat(d.k), flat(d.v)},
                                  s.projected, p.convolution, segments);
  const auto dx_mode = s.gate.defined() ? ops::Accumulate::yes : ops::Accumulate::no;
  linear_backward(ctx, dx, grads.qkv, dprojected, s.x, p.qkv, dx_mode);
  linear_backward(ctx, dx, grads.ab, dab, s.x, p.ab, ops::Accumulate::yes);
}

void GatedDeltaNet::step(Context& ctx, Tensor y, ConstTensor x, const Params& p, const Policy& policy,
                         const ops::Segments& segments, const State& state) {
  Arena::Scope scope(*ctx.scratch);
  const Saved s = project(ctx, *ctx.scratch, state.convolution, x, p, policy, segments);
  ops::gated_delta_forward(ctx, s.y, Tensor{}, {state.delta, state.delta}, delta_inputs(s), segments, {});
  finish(ctx, y, s, p, policy);
}

}  // namespace braid::nn
