// One layer of the stack: a mixer and a feed-forward, each with its norm before it or on its output.
#pragma once
#include <variant>

#include "braid/model/config.h"
#include "braid/nn/attention.h"
#include "braid/nn/gated_delta_net.h"
#include "braid/nn/mlp.h"

namespace braid::model {

struct Block {
  struct Params {
    std::variant<nn::Attention::Params, nn::GatedDeltaNet::Params> mixer;
    nn::Mlp::Params mlp;
    Tensor mixer_norm, mlp_norm;  // (C)
  };
  struct Policy {
    NormPlacement norm = NormPlacement::post;
    double norm_epsilon = 1e-6;
    std::variant<nn::Attention::Policy, nn::GatedDeltaNet::Policy> mixer;
  };
  // Around one sublayer: its place in the residual stream, and what its norm keeps.
  struct NormSaved {
    ConstTensor x;       // (N, C)
    Tensor normed;       // pre: the sublayer's input
    Tensor y;            // post: the sublayer's output
    Tensor inverse_rms;  // (N)
  };
  // The sublayers' own inputs (Mlp::Saved::x …) are set anew in backward: dropped ones do not outlive
  // forward.
  struct Saved {
    std::variant<nn::Attention::Saved, nn::GatedDeltaNet::Saved> mixer;
    nn::Mlp::Saved mlp;
    NormSaved mixer_norm, mlp_norm;
    Tensor h;  // (N, C), between the sublayers
  };
  using State = std::variant<nn::Attention::State, nn::GatedDeltaNet::State>;

  // y (N, C) from x (N, C), which lives as long as what is kept, in another arena than ctx.scratch. y
  // undefined: only what backward needs.
  static Saved forward(Context&, nn::Saving, Tensor y, ConstTensor x, const Params&, const Policy&,
                       const nn::Attention::Tokens&);
  // `d` (N, C) holds the gradient of y and is turned into that of x; parameter gradients are added into
  // grads.
  static void backward(Context&, Tensor d, const Params& grads, const Params&, const Policy&,
                       const nn::Attention::Tokens&, const Saved&);
  static void step(Context&, Tensor y, ConstTensor x, const Params&, const Policy&,
                   const nn::Attention::Tokens&, const State&);
};

nn::Attention::Config attention_shape(const ModelConfig&);
nn::GatedDeltaNet::Config linear_shape(const ModelConfig&);

}  // namespace braid::model
