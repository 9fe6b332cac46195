// SwiGLU feed-forward: y = (silu(x Wgᵀ) ⊙ x Wuᵀ) Wdᵀ.
#pragma once
#include "braid/core/context.h"
#include "braid/nn/linear.h"
#include "braid/nn/parameters.h"
#include "braid/nn/saving.h"

namespace braid::nn {

struct Mlp {
  struct Config {
    std::int64_t width, hidden;  // C, F
  };
  struct Params {
    Tensor gate_up;  // (2F, C)
    Tensor down;     // (C, F)
  };
  struct Saved {
    ConstTensor x;           // (N, C)
    Tensor gate_up, hidden;  // (N, 2F), (N, F)
  };

  template <class P, class Fn>
  static void visit(P& p, const Config& c, Fn&& fn) {
    fn(ParameterSpec{.name = "gate_up_proj.weight",
                     .shape = {2 * c.hidden, c.width},
                     .parts = {{"gate_proj.weight", c.hidden}, {"up_proj.weight", c.hidden}}},
       p.gate_up);
    fn(ParameterSpec{.name = "down_proj.weight", .shape = {c.width, c.hidden}}, p.down);
  }

  // y undefined: only what backward needs.
  static Saved forward(Context&, Saving, Output y, ConstTensor x, const Params&);
  // Keeps nothing.
  static void step(Context&, Output y, ConstTensor x, const Params&);
  // Overwrites dx, adds into grads.
  static void backward(Context&, Tensor dx, const Params& grads, ConstTensor dy, const Params&, const Saved&);
};

}  // namespace braid::nn
