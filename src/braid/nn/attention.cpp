#include "braid/nn/attention.h"

#include "braid/nn/linear.h"
#include "braid/ops/rms_norm.h"

namespace braid::nn {
namespace {

Shape heads_shape(const ConstTensor& flat, std::int64_t head_dim) {
  return {flat.shape[0], flat.shape[1] / head_dim, head_dim};
}

// Projections, q and k norms and rotation: everything before the attention itself.
Attention::Saved project(Context& ctx, Arena& saved, ConstTensor x, const Attention::Params& p,
                         const Attention::Policy& policy, const Attention::Tokens& tokens) {
  const auto n = x.shape[0], wide = p.q.shape[0], narrow = p.k.shape[0];
  const auto statistics = accumulator_of(x.dtype);
  Attention::Saved s{.x = x,
                     .q = saved.make(x.dtype, {n, wide}),
                     .k = saved.make(x.dtype, {n, narrow}),
                     .q_inverse_rms = saved.make(statistics, {n}),
                     .k_inverse_rms = saved.make(statistics, {n}),
                     .q_rotated = saved.make(x.dtype, {n, wide}),
                     .k_rotated = saved.make(x.dtype, {n, narrow}),
                     .v = saved.make(x.dtype, {n, narrow}),
                     .y = saved.make(x.dtype, {n, wide}),
                     .log_sum_exp = saved.make(statistics, {n, wide / policy.head_dim})};
  linear(ctx, s.q, x, p.q);
  linear(ctx, s.k, x, p.k);
  linear(ctx, s.v, x, p.v);
  const ops::RmsNormOptions norm{.epsilon = policy.norm_epsilon};
  ops::rms_norm_forward(ctx, s.q_rotated, s.q_inverse_rms, s.q, p.q_norm, norm);
  ops::rms_norm_forward(ctx, s.k_rotated, s.k_inverse_rms, s.k, p.k_norm, norm);
  for (Tensor* t : {&s.q_rotated, &s.k_rotated, &s.v, &s.y})
    *t = reshaped(*t, heads_shape(*t, policy.head_dim));
  if (policy.rotary) {
    ops::rotary(ctx, s.q_rotated, s.q_rotated, *policy.rotary, tokens.positions, ops::Rotation::forward);
    ops::rotary(ctx, s.k_rotated, s.k_rotated, *policy.rotary, tokens.positions, ops::Rotation::forward);
  }
  return s;
}

Tensor flat(const Tensor& t) { return reshaped(t, {t.shape[0], t.shape[1] * t.shape[2]}); }

}  // namespace

Attention::Saved Attention::forward(Context& ctx, Arena& saved, Tensor y, ConstTensor x, const Params& p,
                                    const Policy& policy, const Tokens& tokens) {
  const Saved s = project(ctx, saved, x, p, policy, tokens);
  ops::attention_forward(ctx, s.y, s.log_sum_exp, {s.q_rotated, s.k_rotated, s.v}, tokens.segments,
                         {.window = policy.window});
  linear(ctx, y, flat(s.y), p.o);
  return s;
}

void Attention::backward(Context& ctx, Tensor dx, const Params& grads, ConstTensor dy, const Params& p,
                         const Policy& policy, const Tokens& tokens, const Saved& s) {
  Arena::Scope scope(*ctx.scratch);
  const Tensor dattended = ctx.scratch->make(dx.dtype, s.y.shape);
  const Tensor dq = ctx.scratch->make(dx.dtype, s.q_rotated.shape);
  const Tensor dk = ctx.scratch->make(dx.dtype, s.k_rotated.shape);
  const Tensor dv = ctx.scratch->make(dx.dtype, s.v.shape);
  linear_backward(ctx, flat(dattended), grads.o, dy, flat(s.y), p.o);
  ops::attention_backward(ctx, {dq, dk, dv}, dattended, {s.q_rotated, s.k_rotated, s.v}, {s.y, s.log_sum_exp},
                          tokens.segments, {.window = policy.window});
  if (policy.rotary) {
    ops::rotary(ctx, dq, dq, *policy.rotary, tokens.positions, ops::Rotation::inverse);
    ops::rotary(ctx, dk, dk, *policy.rotary, tokens.positions, ops::Rotation::inverse);
  }
  const Tensor dq_flat = flat(dq), dk_flat = flat(dk);
  ops::rms_norm_backward(ctx, dq_flat, grads.q_norm, dq_flat, {s.q, p.q_norm, s.q_inverse_rms},
                         ops::Accumulate::no);
  ops::rms_norm_backward(ctx, dk_flat, grads.k_norm, dk_flat, {s.k, p.k_norm, s.k_inverse_rms},
                         ops::Accumulate::no);
  linear_backward(ctx, dx, grads.q, dq_flat, s.x, p.q);
  linear_backward(ctx, dx, grads.k, dk_flat, s.x, p.k, ops::Accumulate::yes);
  linear_backward(ctx, dx, grads.v, flat(dv), s.x, p.v, ops::Accumulate::yes);
}

void Attention::step(Context& ctx, Tensor y, ConstTensor x, const Params& p, const Policy& policy,
                     const Tokens& tokens, const State& state) {
  Arena::Scope scope(*ctx.scratch);
  const Saved s = project(ctx, *ctx.scratch, x, p, policy, tokens);
  ops::attention_cached(ctx, s.y, state.cache, {s.q_rotated, s.k_rotated, s.v}, tokens.segments,
                        state.lengths, {.window = policy.window});
  linear(ctx, y, flat(s.y), p.o);
}

}  // namespace braid::nn
