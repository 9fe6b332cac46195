#include "braid/nn/mlp.h"

#include "braid/nn/linear.h"
#include "braid/ops/swiglu.h"

namespace braid::nn {

Mlp::Saved Mlp::forward(Context& ctx, Arena& saved, Tensor y, ConstTensor x, const Params& p) {
  const auto tokens = x.shape[0], hidden = p.down.shape[1];
  const Saved s{.x = x,
                .gate_up = saved.make(x.dtype, {tokens, 2 * hidden}),
                .hidden = saved.make(x.dtype, {tokens, hidden})};
  linear(ctx, s.gate_up, x, p.gate_up);
  ops::swiglu_forward(ctx, s.hidden, s.gate_up);
  linear(ctx, y, s.hidden, p.down);
  return s;
}

void Mlp::backward(Context& ctx, Tensor dx, const Params& grads, ConstTensor dy, const Params& p,
                   const Saved& s) {
  Arena::Scope scope(*ctx.scratch);
  const Tensor dhidden = ctx.scratch->make(dx.dtype, s.hidden.shape);
  const Tensor dgate_up = ctx.scratch->make(dx.dtype, s.gate_up.shape);
  linear_backward(ctx, dhidden, grads.down, dy, s.hidden, p.down);
  ops::swiglu_backward(ctx, dgate_up, dhidden, s.gate_up);
  linear_backward(ctx, dx, grads.gate_up, dgate_up, s.x, p.gate_up);
}

}  // namespace braid::nn
