#include "braid/nn/attention.h"

#include "braid/ops/norm_rotary.h"
#include "braid/ops/rms_norm.h"

namespace braid::nn {
namespace {

Tensor flat(const Tensor& t) { return reshaped(t, {t.shape[0], t.shape[1] * t.shape[2]}); }

// Projections, q and k norms and rotation: everything before the attention itself, where it is missing.
void project(Context& ctx, Saving& saving, Attention::Saved& s, const Attention::Params& p,
             const Attention::Policy& policy, const Attention::Tokens& tokens) {
  const auto n = s.x.shape[0], wide = p.q.shape[0], narrow = p.k.shape[0], width = policy.head_dim;
  const auto dtype = s.x.dtype, statistics = accumulator_of(dtype);
  if (saving.make(ctx, s.q, Keep::products, dtype, {n, wide})) {
    saving.make(ctx, s.k, Keep::products, dtype, {n, narrow});
    saving.make(ctx, s.v, Keep::products, dtype, {n, narrow / width, width});
    const ops::LinearPart parts[] = {{s.q, p.q}, {s.k, p.k}, {flat(s.v), p.v}};
    ops::linear_group(ctx, parts, s.x);
  }
  if (!saving.make(ctx, s.q_rotated, Keep::all, dtype, {n, wide / width, width})) return;
  saving.make(ctx, s.k_rotated, Keep::all, dtype, {n, narrow / width, width});
  saving.make(ctx, s.q_inverse_rms, Keep::all, statistics, {n});
  saving.make(ctx, s.k_inverse_rms, Keep::all, statistics, {n});
  const ops::NormRotaryPart parts[] = {{s.q_rotated, s.q_inverse_rms, s.q, p.q_norm},
                                       {s.k_rotated, s.k_inverse_rms, s.k, p.k_norm}};
  ops::norm_rotary_forward(ctx, parts, policy.rotary, tokens.positions, policy.norm_epsilon);
}

void attend(Context& ctx, Saving& saving, Attention::Saved& s, const Attention::Policy& policy,
            const Attention::Tokens& tokens) {
  if (!saving.make(ctx, s.y, Keep::products, s.x.dtype, s.q_rotated.shape)) return;
  saving.make(ctx, s.log_sum_exp, Keep::products, accumulator_of(s.x.dtype), {s.y.shape[0], s.y.shape[1]});
  ops::attention_forward(ctx, s.y, s.log_sum_exp, {s.q_rotated, s.k_rotated, s.v}, tokens.segments,
                         {.window = policy.window});
}

}  // namespace

Attention::Saved Attention::forward(Context& ctx, Saving saving, Output y, ConstTensor x, const Params& p,
                                    const Policy& policy, const Tokens& tokens) {
  Saved s;
  s.x = x;
  project(ctx, saving, s, p, policy, tokens);
  attend(ctx, saving, s, policy, tokens);
  linear(ctx, y, flat(s.y), p.o);
  saving.drop();
  return s;
}

void Attention::backward(Context& ctx, Tensor dx, const Params& grads, ConstTensor dy, const Params& p,
                         const Policy& policy, const Tokens& tokens, const Saved& kept) {
  Arena::Scope scope(*ctx.scratch);
  Saved s = kept;
  Saving again(*ctx.scratch);
  project(ctx, again, s, p, policy, tokens);
  attend(ctx, again, s, policy, tokens);
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

void Attention::step(Context& ctx, Output y, ConstTensor x, const Params& p, const Policy& policy,
                     const Tokens& tokens, const State& state) {
  Arena::Scope scope(*ctx.scratch);
  Saved s;
  s.x = x;
  Saving saving(*ctx.scratch);
  project(ctx, saving, s, p, policy, tokens);
  saving.make(ctx, s.y, Keep::all, x.dtype, s.q_rotated.shape);
  ops::attention_cached(ctx, s.y, state.cache, {s.q_rotated, s.k_rotated, s.v}, tokens.segments,
                        state.lengths, {.window = policy.window});
  linear(ctx, y, flat(s.y), p.o);
}

}  // namespace braid::nn
