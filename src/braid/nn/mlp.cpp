#include "braid/nn/mlp.h"

#include "braid/ops/swiglu.h"

namespace braid::nn {
namespace {

// Everything before the last product, where it is missing.
void activate(Context& ctx, Saving& saving, Mlp::Saved& s, const Mlp::Params& p) {
  const auto tokens = s.x.shape[0], hidden = p.down.shape[1];
  const bool product_too = saving.make(ctx, s.gate_up, Keep::products, s.x.dtype, {tokens, 2 * hidden});
  if (!saving.make(ctx, s.hidden, Keep::all, s.x.dtype, {tokens, hidden})) return;
  if (product_too) {
    ops::swiglu_linear(ctx, s.hidden, s.gate_up, s.x, p.gate_up);
  } else {
    ops::swiglu_forward(ctx, s.hidden, s.gate_up);
  }
}

}  // namespace

Mlp::Saved Mlp::forward(Context& ctx, Saving saving, Output y, ConstTensor x, const Params& p) {
  Saved s;
  s.x = x;
  activate(ctx, saving, s, p);
  if (y.y.defined()) linear(ctx, y, s.hidden, p.down);
  saving.drop();
  return s;
}

void Mlp::step(Context& ctx, Output y, ConstTensor x, const Params& p) {
  const Arena::Scope scope(*ctx.scratch);
  const Tensor hidden = ctx.scratch->make(x.dtype, {x.shape[0], p.down.shape[1]});
  ops::swiglu_linear(ctx, hidden, Tensor{}, x, p.gate_up);
  linear(ctx, y, hidden, p.down);
}

void Mlp::backward(Context& ctx, Tensor dx, const Params& grads, ConstTensor dy, const Params& p,
                   const Saved& kept) {
  Arena::Scope scope(*ctx.scratch);
  Saved s = kept;
  Saving again(*ctx.scratch);
  activate(ctx, again, s, p);
  const Tensor dgate_up = ctx.scratch->make(dx.dtype, s.gate_up.shape);
  weight_backward(ctx, grads.down, dy, s.hidden);
  ops::swiglu_linear_backward(ctx, dgate_up, dy, p.down, s.gate_up);
  linear_backward(ctx, dx, grads.gate_up, dgate_up, s.x, p.gate_up);
}

}  // namespace braid::nn
