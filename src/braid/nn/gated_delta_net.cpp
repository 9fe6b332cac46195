#include "braid/nn/gated_delta_net.h"

#include "braid/ops/delta_gates.h"
#include "braid/ops/delta_mixer.h"
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

// Projections, convolution and gates: everything before the recurrence, where it is missing. `convolution`
// may be undefined.
void project(Context& ctx, Saving& saving, GatedDeltaNet::Saved& s, Tensor convolution,
             const GatedDeltaNet::Params& p, const GatedDeltaNet::Policy& policy,
             const ops::Segments& segments) {
  const auto n = s.x.shape[0], heads = policy.value_heads;
  const auto dtype = s.x.dtype, precise = accumulator_of(dtype);
  if (saving.make(ctx, s.projected, Keep::products, dtype, {n, p.qkv.shape[0]})) {
    saving.make(ctx, s.ab, Keep::products, precise, {n, 2 * heads});
    const bool gated = p.gate.defined();
    if (gated) saving.make(ctx, s.gate, Keep::products, dtype, {n, p.gate.shape[0]});
    const ops::LinearPart parts[] = {{s.projected, p.qkv}, {s.ab, p.ab}, {s.gate, p.gate}};
    ops::linear_group(ctx, std::span(parts).first(gated ? 3 : 2), s.x);
  }
  if (!saving.make(ctx, s.q, Keep::all, dtype, {n, policy.key_heads, policy.key_dim})) return;
  saving.make(ctx, s.k, Keep::all, dtype, s.q.shape);
  saving.make(ctx, s.v, Keep::all, dtype, {n, heads, policy.value_dim});
  saving.make(ctx, s.log_decay, Keep::all, precise, {n, heads});
  saving.make(ctx, s.beta, Keep::all, precise, {n, heads});
  ops::short_convolution_forward(ctx, {flat(s.q), flat(s.k), flat(s.v)}, convolution, s.projected,
                                 p.convolution, segments);
  ops::delta_gates_forward(ctx, s.log_decay, s.beta, gate_inputs(s, p), {.beta_scale = policy.beta_scale});
}

void recur(Context& ctx, Saving& saving, GatedDeltaNet::Saved& s, const ops::Segments& segments) {
  if (!saving.make(ctx, s.y, Keep::mixers, s.v.dtype, s.v.shape)) return;
  saving.make(ctx, s.checkpoints, Keep::mixers, s.v.dtype,
              ops::gated_delta_checkpoint_shape(delta_inputs(s), segments));
  ops::gated_delta_forward(ctx, s.y, s.checkpoints, {}, delta_inputs(s), segments, {});
}

// Output norm and gate.
void normalise(Context& ctx, Saving& saving, GatedDeltaNet::Saved& s, const GatedDeltaNet::Params& p,
               const GatedDeltaNet::Policy& policy) {
  const Tensor y = per_head(s.y);
  if (!saving.make(ctx, s.normed, Keep::all, y.dtype, y.shape)) return;
  saving.make(ctx, s.inverse_rms, Keep::all, accumulator_of(y.dtype), {y.shape[0]});
  const ops::RmsNormOptions norm{.epsilon = policy.norm_epsilon};
  if (s.gate.defined()) {
    ops::gated_rms_norm_forward(ctx, s.normed, s.inverse_rms, y, reshaped(s.gate, y.shape), p.o_norm, norm);
  } else {
    ops::rms_norm_forward(ctx, s.normed, s.inverse_rms, y, p.o_norm, norm);
  }
}

// The output projection.
void finish(Context& ctx, Output y, const GatedDeltaNet::Saved& s, const GatedDeltaNet::Params& p) {
  linear(ctx, y, reshaped(s.normed, {s.x.shape[0], p.o.shape[1]}), p.o);
}

// One token for every sequence.
void decode(Context& ctx, Output y, ConstTensor x, const GatedDeltaNet::Params& p,
            const GatedDeltaNet::Policy& policy, const ops::Segments& segments,
            const GatedDeltaNet::State& state) {
  const auto n = x.shape[0];
  const auto make = [&](DType dtype, std::int64_t width) { return ctx.scratch->make(dtype, {n, width}); };
  const Tensor projected = make(x.dtype, p.qkv.shape[0]), gate = make(x.dtype, p.gate.shape[0]),
               ab = make(accumulator_of(x.dtype), p.ab.shape[0]), normed = make(x.dtype, p.o.shape[1]);
  const ops::LinearPart parts[] = {{projected, p.qkv}, {ab, p.ab}, {gate, p.gate}};
  ops::linear_group(ctx, parts, x);
  ops::delta_mixer_step(ctx, normed, {state.convolution, state.delta},
                        {projected, ab, gate, p.convolution, p.a_log, p.dt_bias, p.o_norm}, segments,
                        {.beta_scale = policy.beta_scale, .epsilon = policy.norm_epsilon});
  linear(ctx, y, normed, p.o);
}

// Backward of all that follows the recurrence: overwrites dmixed, and dx where there is a gate.
void finish_backward(Context& ctx, Tensor dx, Tensor dmixed, const GatedDeltaNet::Params& grads,
                     ConstTensor dy, const GatedDeltaNet::Params& p, const GatedDeltaNet::Saved& s) {
  const Shape wide{s.x.shape[0], p.o.shape[1]};
  const ConstTensor normed = reshaped(s.normed, wide);
  const ops::RmsNormInputs norm{per_head(s.y), p.o_norm, s.inverse_rms};
  if (s.gate.defined()) {
    const Tensor dgate = ctx.scratch->make(dx.dtype, s.normed.shape);
    weight_backward(ctx, grads.o, dy, normed);
    ops::gated_rms_norm_linear_backward(ctx, per_head(dmixed), dgate, grads.o_norm, dy, p.o,
                                        reshaped(s.gate, s.normed.shape), norm);
    linear_backward(ctx, dx, grads.gate, reshaped(dgate, wide), s.x, p.gate);
  } else {
    const Tensor dnormed = ctx.scratch->make(dx.dtype, s.normed.shape);
    linear_backward(ctx, reshaped(dnormed, wide), grads.o, dy, normed, p.o);
    ops::rms_norm_backward(ctx, per_head(dmixed), grads.o_norm, dnormed, norm, ops::Accumulate::no);
  }
}

}  // namespace

GatedDeltaNet::Saved GatedDeltaNet::forward(Context& ctx, Saving saving, Output y, ConstTensor x,
                                            const Params& p, const Policy& policy,
                                            const ops::Segments& segments) {
  Saved s;
  s.x = x;
  project(ctx, saving, s, Tensor{}, p, policy, segments);
  recur(ctx, saving, s, segments);
  normalise(ctx, saving, s, p, policy);
  finish(ctx, y, s, p);
  saving.drop();
  return s;
}

void GatedDeltaNet::backward(Context& ctx, Tensor dx, const Params& grads, ConstTensor dy, const Params& p,
                             const Policy& policy, const ops::Segments& segments, const Saved& kept) {
  Arena::Scope scope(*ctx.scratch);
  Arena& scratch = *ctx.scratch;
  Saved s = kept;
  Saving again(scratch);
  project(ctx, again, s, Tensor{}, p, policy, segments);
  recur(ctx, again, s, segments);
  const Tensor dmixed = scratch.make(dx.dtype, s.y.shape);
  {
    Arena::Scope after_recurrence(scratch);
    Saved whole = s;
    normalise(ctx, again, whole, p, policy);
    finish_backward(ctx, dx, dmixed, grads, dy, p, whole);
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

void GatedDeltaNet::step(Context& ctx, Output y, ConstTensor x, const Params& p, const Policy& policy,
                         const ops::Segments& segments, const State& state) {
  Arena::Scope scope(*ctx.scratch);
  const bool one_each = segments.longest == 1 && x.shape[0] == segments.count();
  if (one_each && p.gate.defined()) return decode(ctx, y, x, p, policy, segments, state);
  Saved s;
  s.x = x;
  Saving saving(*ctx.scratch);
  project(ctx, saving, s, state.convolution, p, policy, segments);
  saving.make(ctx, s.y, Keep::all, x.dtype, s.v.shape);
  ops::gated_delta_forward(ctx, s.y, Tensor{}, {state.delta, state.delta}, delta_inputs(s), segments, {});
  normalise(ctx, saving, s, p, policy);
  finish(ctx, y, s, p);
}

}  // namespace braid::nn
