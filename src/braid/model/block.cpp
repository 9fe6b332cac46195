#include "braid/model/block.h"

#include "braid/ops/elementwise.h"
#include "braid/ops/rms_norm.h"

namespace braid::model {
namespace {

using nn::Attention;
using nn::GatedDeltaNet;
using nn::Mlp;

// h = x + sublayer(norm(x)), or x + norm(sublayer(x)). `run(y, input)` is the sublayer.
template <class Run>
Block::NormSaved sublayer_forward(Context& ctx, Arena& saved, Tensor h, ConstTensor x, ConstTensor weight,
                                  const Block::Policy& policy, Run&& run) {
  const Tensor inverse_rms = saved.make(accumulator_of(x.dtype), {x.shape[0]});
  const ops::RmsNormOptions norm{.epsilon = policy.norm_epsilon};
  if (policy.norm == NormPlacement::pre) {
    const Tensor normed = saved.make(x.dtype, x.shape);
    ops::rms_norm_forward(ctx, normed, inverse_rms, x, weight, norm);
    run(h, normed);
    ops::add(ctx, h, h, x);
    return {x, inverse_rms};
  }
  const Tensor y = saved.make(x.dtype, x.shape);
  run(y, x);
  ops::rms_norm_forward(ctx, h, inverse_rms, y, weight, norm);
  ops::add(ctx, h, h, x);
  return {y, inverse_rms};
}

// Turns the gradient of h into that of x. `run(dx, dy)` is the sublayer's backward.
template <class Run>
void sublayer_backward(Context& ctx, Tensor d, Tensor dweight, ConstTensor weight,
                       const Block::NormSaved& norm, NormPlacement placement, Run&& run) {
  Arena::Scope scope(*ctx.scratch);
  const Tensor inner = ctx.scratch->make(d.dtype, d.shape);
  const ops::RmsNormInputs inputs{norm.x, weight, norm.inverse_rms};
  if (placement == NormPlacement::pre) {
    run(inner, d);
    ops::rms_norm_backward(ctx, d, dweight, inner, inputs, ops::Accumulate::yes);
  } else {
    const Tensor dx = ctx.scratch->make(d.dtype, d.shape);
    ops::rms_norm_backward(ctx, inner, dweight, d, inputs, ops::Accumulate::no);
    run(dx, inner);
    ops::add(ctx, d, d, dx);
  }
}

}  // namespace

Block::Saved Block::forward(Context& ctx, Arena& saved, Tensor y, ConstTensor x, const Params& p,
                            const Policy& policy, const Attention::Tokens& tokens) {
  Saved s;
  const Tensor h = saved.make(x.dtype, x.shape);
  s.mixer_norm = sublayer_forward(ctx, saved, h, x, p.mixer_norm, policy, [&](Tensor out, ConstTensor in) {
    if (const auto* attention = std::get_if<Attention::Params>(&p.mixer)) {
      s.mixer = Attention::forward(ctx, saved, out, in, *attention, std::get<Attention::Policy>(policy.mixer),
                                   tokens);
    } else {
      s.mixer = GatedDeltaNet::forward(ctx, saved, out, in, std::get<GatedDeltaNet::Params>(p.mixer),
                                       std::get<GatedDeltaNet::Policy>(policy.mixer), tokens.segments);
    }
  });
  s.mlp_norm = sublayer_forward(ctx, saved, y, h, p.mlp_norm, policy, [&](Tensor out, ConstTensor in) {
    s.mlp = Mlp::forward(ctx, saved, out, in, p.mlp);
  });
  return s;
}

void Block::backward(Context& ctx, Tensor d, const Params& grads, const Params& p, const Policy& policy,
                     const Attention::Tokens& tokens, const Saved& s) {
  sublayer_backward(ctx, d, grads.mlp_norm, p.mlp_norm, s.mlp_norm, policy.norm,
                    [&](Tensor dx, ConstTensor dy) { Mlp::backward(ctx, dx, grads.mlp, dy, p.mlp, s.mlp); });
  sublayer_backward(ctx, d, grads.mixer_norm, p.mixer_norm, s.mixer_norm, policy.norm,
                    [&](Tensor dx, ConstTensor dy) {
                      if (const auto* attention = std::get_if<Attention::Params>(&p.mixer)) {
                        Attention::backward(ctx, dx, std::get<Attention::Params>(grads.mixer), dy, *attention,
                                            std::get<Attention::Policy>(policy.mixer), tokens,
                                            std::get<Attention::Saved>(s.mixer));
                      } else {
                        GatedDeltaNet::backward(ctx, dx, std::get<GatedDeltaNet::Params>(grads.mixer), dy,
                                                std::get<GatedDeltaNet::Params>(p.mixer),
                                                std::get<GatedDeltaNet::Policy>(policy.mixer),
                                                tokens.segments, std::get<GatedDeltaNet::Saved>(s.mixer));
                      }
                    });
}

void Block::step(Context& ctx, Tensor y, ConstTensor x, const Params& p, const Policy& policy,
                 const Attention::Tokens& tokens, const State& state) {
  Arena::Scope scope(*ctx.scratch);
  Arena& scratch = *ctx.scratch;
  const Tensor h = scratch.make(x.dtype, x.shape);
  sublayer_forward(ctx, scratch, h, x, p.mixer_norm, policy, [&](Tensor out, ConstTensor in) {
    if (const auto* attention = std::get_if<Attention::Params>(&p.mixer)) {
      Attention::step(ctx, out, in, *attention, std::get<Attention::Policy>(policy.mixer), tokens,
                      std::get<Attention::State>(state));
    } else {
      GatedDeltaNet::step(ctx, out, in, std::get<GatedDeltaNet::Params>(p.mixer),
                          std::get<GatedDeltaNet::Policy>(policy.mixer), tokens.segments,
                          std::get<GatedDeltaNet::State>(state));
    }
  });
  sublayer_forward(ctx, scratch, y, h, p.mlp_norm, policy,
                   [&](Tensor out, ConstTensor in) { Mlp::forward(ctx, scratch, out, in, p.mlp); });
}

nn::Attention::Config attention_shape(const ModelConfig& c) {
  return {c.hidden_size, c.attention.heads, c.attention.kv_heads, c.attention.head_dim};
}

nn::GatedDeltaNet::Config linear_shape(const ModelConfig& c) {
  const auto& l = c.linear;
  return {c.hidden_size,
          l.key_heads,
          l.value_heads,
          l.key_dim,
          l.value_dim,
          l.convolution_width,
          l.output_gate ? GatedDeltaNet::OutputGate::yes : GatedDeltaNet::OutputGate::no,
          l.initializer};
}

}  // namespace braid::model
