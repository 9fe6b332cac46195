// Gated DeltaNet mixer as run in Olmo Hybrid (paper section 2, Appendix A; Yang et al. 2024).
#pragma once
#include "braid/nn/linear.h"
#include "braid/nn/parameters.h"
#include "braid/nn/saving.h"
#include "braid/ops/gated_delta.h"

namespace braid::nn {

struct GatedDeltaNet {
  enum class OutputGate : bool { no, yes };
  struct Config {
    std::int64_t width, key_heads, value_heads, key_dim, value_dim;  // C, Hk, Hv, Dk, Dv
    std::int64_t convolution_width;                                  // W taps
    OutputGate gate;
    Initializer projections = Initializer::fan_in_uniform;
  };
  struct Params {
    Tensor qkv;             // (2·Hk·Dk + Hv·Dv, C)
    Tensor gate;            // (Hv·Dv, C); undefined without an output gate
    Tensor ab;              // (2·Hv, C)
    Tensor convolution;     // (2·Hk·Dk + Hv·Dv, W)
    Tensor a_log, dt_bias;  // (Hv)
    Tensor o_norm;          // (Dv), shared by the heads
    Tensor o;               // (C, Hv·Dv)
  };
  struct Policy {
    std::int64_t key_heads, value_heads, key_dim, value_dim;
    double beta_scale = 2;       // 2 allows negative eigenvalues
    double norm_epsilon = 1e-5;  // of the output norm
  };
  struct Saved {
    ConstTensor x;                  // (N, C)
    Tensor projected;               // (N, 2·Hk·Dk + Hv·Dv), before the convolution
    Tensor q, k, v;                 // (N, Hk, Dk) twice, (N, Hv, Dv)
    Tensor gate, ab;                // (N, Hv·Dv), (N, 2·Hv) of the accumulator dtype
    Tensor log_decay, beta;         // (N, Hv)
    Tensor checkpoints;             // delta-rule states before each chunk
    Tensor y, inverse_rms, normed;  // (N, Hv, Dv), (N·Hv), (N·Hv, Dv)
  };
  // Decode state per sequence, constant in its length.
  struct State {
    Tensor convolution;  // (S, W - 1, 2·Hk·Dk + Hv·Dv)
    Tensor delta;        // (S, Hv, Dk, Dv), f32
  };

  template <class P, class Fn>
  static void visit(P& p, const Config& c, Fn&& fn) {
    const auto keys = c.key_heads * c.key_dim, values = c.value_heads * c.value_dim, heads = c.value_heads;
    const auto init = c.projections;
    fn(ParameterSpec{"qkv_proj.weight",
                     {2 * keys + values, c.width},
                     init,
                     ParameterRole::matrix,
                     {{"q_proj.weight", keys}, {"k_proj.weight", keys}, {"v_proj.weight", values}}},
       p.qkv);
    if (c.gate == OutputGate::yes) {
      fn(ParameterSpec{.name = "g_proj.weight", .shape = {values, c.width}, .initializer = init}, p.gate);
    }
    fn(ParameterSpec{"ab_proj.weight",
                     {2 * heads, c.width},
                     init,
                     ParameterRole::matrix,
                     {{"a_proj.weight", heads}, {"b_proj.weight", heads}}},
       p.ab);
    fn(ParameterSpec{"conv1d.weight",
                     {2 * keys + values, c.convolution_width},
                     Initializer::fan_in_uniform,
                     ParameterRole::precise},
       p.convolution);
    fn(ParameterSpec{"A_log", {heads}, Initializer::a_log, ParameterRole::precise}, p.a_log);
    fn(ParameterSpec{"dt_bias", {heads}, Initializer::dt_bias, ParameterRole::precise}, p.dt_bias);
    fn(ParameterSpec{"o_norm.weight", {c.value_dim}, Initializer::ones, ParameterRole::precise}, p.o_norm);
    fn(ParameterSpec{.name = "o_proj.weight", .shape = {c.width, values}, .initializer = init}, p.o);
  }

  static Saved forward(Context&, Saving, Output y, ConstTensor x, const Params&, const Policy&,
                       const ops::Segments&);
  // Overwrites dx, adds into grads.
  static void backward(Context&, Tensor dx, const Params& grads, ConstTensor dy, const Params&, const Policy&,
                       const ops::Segments&, const Saved&);
  // Prefill and decode: advances the state by each segment's tokens.
  static void step(Context&, Output y, ConstTensor x, const Params&, const Policy&, const ops::Segments&,
                   const State&);
};

}  // namespace braid::nn
