// Softmax attention as in Olmo 3: no biases, RMSNorm over the whole projected q and k, rotary positions or
// none.
#pragma once
#include <optional>

#include "braid/nn/linear.h"
#include "braid/nn/parameters.h"
#include "braid/nn/saving.h"
#include "braid/ops/attention.h"
#include "braid/ops/rotary.h"

namespace braid::nn {

struct Attention {
  struct Config {
    std::int64_t width, heads, kv_heads, head_dim;  // C, H, Hkv, D
  };
  struct Params {
    Tensor q, k, v;         // (H·D, C), (Hkv·D, C), (Hkv·D, C)
    Tensor q_norm, k_norm;  // (H·D), (Hkv·D)
    Tensor o;               // (C, H·D)
  };
  // How this layer looks at its tokens. Resolved once per model, from its config.
  struct Policy {
    std::int64_t head_dim;
    std::int64_t window = 0;                   // 0: unlimited
    std::optional<ops::RotaryTable> rotary{};  // none: no position encoding
    double norm_epsilon = 1e-6;
  };
  struct Tokens {
    ops::Segments segments;
    ConstTensor positions;  // (N) i32
  };
  struct Saved {
    ConstTensor x;                                   // (N, C)
    Tensor q, k, q_inverse_rms, k_inverse_rms;       // before the norm: (N, H·D), (N, Hkv·D), (N), (N)
    Tensor q_rotated, k_rotated, v, y, log_sum_exp;  // (N, H, D), (N, Hkv, D) twice, (N, H, D), (N, H)
  };
  // Decode state: keys and values of each sequence, and how many tokens each has (kept by the session).
  struct State {
    ops::KeyValueCache cache;
    ConstTensor lengths;
  };

  template <class P, class Fn>
  static void visit(P& p, const Config& c, Fn&& fn) {
    const auto wide = c.heads * c.head_dim, narrow = c.kv_heads * c.head_dim;
    fn(ParameterSpec{.name = "q_proj.weight", .shape = {wide, c.width}}, p.q);
    fn(ParameterSpec{.name = "k_proj.weight", .shape = {narrow, c.width}}, p.k);
    fn(ParameterSpec{.name = "v_proj.weight", .shape = {narrow, c.width}}, p.v);
    fn(ParameterSpec{"q_norm.weight", {wide}, Initializer::ones, ParameterRole::precise}, p.q_norm);
    fn(ParameterSpec{"k_norm.weight", {narrow}, Initializer::ones, ParameterRole::precise}, p.k_norm);
    fn(ParameterSpec{.name = "o_proj.weight", .shape = {c.width, wide}}, p.o);
  }

  static Saved forward(Context&, Saving, Output y, ConstTensor x, const Params&, const Policy&,
                       const Tokens&);
  // Overwrites dx, adds into grads.
  static void backward(Context&, Tensor dx, const Params& grads, ConstTensor dy, const Params&, const Policy&,
                       const Tokens&, const Saved&);
  // Prefill and decode through the cache.
  static void step(Context&, Output y, ConstTensor x, const Params&, const Policy&, const Tokens&,
                   const State&);
};

}  // namespace braid::nn
