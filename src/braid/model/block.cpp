#include "braid/model/block.h"

#include "braid/ops/elementwise.h"
#include "braid/ops/rms_norm.h"

namespace braid::model {
namespace {

using nn::Attention;
using nn::GatedDeltaNet;
using nn::Keep;
using nn::Mlp;

// The sublayer's input, norm(x) or x; what is missing is computed.
ConstTensor enter(Context& ctx, nn::Saving& saving, Block::NormSaved& s, ConstTensor weight,
                  const Block::Policy& policy) {
  if (policy.norm == NormPlacement::post) return s.x;
  if (saving.make(ctx, s.normed, Keep::all, s.x.dtype, s.x.shape)) {
    saving.make(ctx, s.inverse_rms, Keep::all, accumulator_of(s.x.dtype), {s.x.shape[0]});
    ops::rms_norm_forward(ctx, s.normed, s.inverse_rms, s.x, weight, {.epsilon = policy.norm_epsilon});
  }
  return s.normed;
}

// h = x + norm(y), of a norm on the sublayer's output.
void leave(Context& ctx, nn::Saving& saving, Tensor h, Block::NormSaved& s, ConstTensor weight,
           const Block::Policy& policy) {
  saving.make(ctx, s.inverse_rms, Keep::products, accumulator_of(s.x.dtype), {s.x.shape[0]});
  ops::rms_norm_forward(ctx, h, s.inverse_rms, s.y, weight, {.epsilon = policy.norm_epsilon, .addend = s.x});
}

// h = x + sublayer(norm(x)), or x + norm(sublayer(x)). `run(output, input)` is the sublayer. h undefined:
// only what backward needs.
template <class Run>
void sublayer_forward(Context& ctx, nn::Saving& saving, Tensor h, Block::NormSaved& s, ConstTensor weight,
                      const Block::Policy& policy, Run&& run) {
  const ConstTensor input = enter(ctx, saving, s, weight, policy);
  if (policy.norm == NormPlacement::pre) {
    run(nn::Output{h, s.x}, input);
    return;
  }
  saving.make(ctx, s.y, Keep::products, s.x.dtype, s.x.shape);
  run(nn::Output{s.y}, input);
  leave(ctx, saving, h.defined() ? h : ctx.scratch->make(s.x.dtype, s.x.shape), s, weight, policy);
}

// Turns the gradient of h into that of x. `run(dx, dy, input)` is the sublayer's backward.
template <class Run>
void sublayer_backward(Context& ctx, Tensor d, Tensor dweight, Block::NormSaved s, ConstTensor weight,
                       const Block::Policy& policy, Run&& run) {
  Arena::Scope scope(*ctx.scratch);
  nn::Saving again(*ctx.scratch);
  const ConstTensor input = enter(ctx, again, s, weight, policy);
  const Tensor inner = ctx.scratch->make(d.dtype, d.shape);
  if (policy.norm == NormPlacement::pre) {
    run(inner, d, input);
    ops::rms_norm_backward(ctx, d, dweight, inner, {s.x, weight, s.inverse_rms}, ops::Accumulate::yes);
  } else {
    const Tensor dx = ctx.scratch->make(d.dtype, d.shape);
    ops::rms_norm_backward(ctx, inner, dweight, d, {s.y, weight, s.inverse_rms}, ops::Accumulate::no);
    run(dx, inner, input);
    ops::add(ctx, d, d, dx);
  }
}

void mixer_backward(Context& ctx, Tensor dx, const Block::Params& grads, ConstTensor dy,
                    const Block::Params& p, const Block::Policy& policy, const Attention::Tokens& tokens,
                    const Block::Saved& s) {
  if (const auto* attention = std::get_if<Attention::Params>(&p.mixer)) {
    Attention::backward(ctx, dx, std::get<Attention::Params>(grads.mixer), dy, *attention,
                        std::get<Attention::Policy>(policy.mixer), tokens,
                        std::get<Attention::Saved>(s.mixer));
  } else {
    GatedDeltaNet::backward(ctx, dx, std::get<GatedDeltaNet::Params>(grads.mixer), dy,
                            std::get<GatedDeltaNet::Params>(p.mixer),
                            std::get<GatedDeltaNet::Policy>(policy.mixer), tokens.segments,
                            std::get<GatedDeltaNet::Saved>(s.mixer));
  }
}

}  // namespace

Block::Saved Block::forward(Context& ctx, nn::Saving saving, Tensor y, ConstTensor x, const Params& p,
                            const Policy& policy, const Attention::Tokens& tokens) {
  Arena::Scope scope(*ctx.scratch);
  Saved s;
  s.mixer_norm.x = x;
  // With its norm before it, the sublayer's last product is added to x in place, so that h is a product.
  saving.make(ctx, s.h, policy.norm == NormPlacement::pre ? Keep::products : Keep::all, x.dtype, x.shape);
  {
    Arena::Scope dropped(*ctx.scratch);
    const auto run = [&](nn::Output out, ConstTensor in) {
      if (const auto* attention = std::get_if<Attention::Params>(&p.mixer)) {
        s.mixer = Attention::forward(ctx, saving, out, in, *attention,
                                     std::get<Attention::Policy>(policy.mixer), tokens);
      } else {
        s.mixer = GatedDeltaNet::forward(ctx, saving, out, in, std::get<GatedDeltaNet::Params>(p.mixer),
                                         std::get<GatedDeltaNet::Policy>(policy.mixer), tokens.segments);
      }
    };
    sublayer_forward(ctx, saving, s.h, s.mixer_norm, p.mixer_norm, policy, run);
  }
  s.mlp_norm.x = s.h;
  sublayer_forward(ctx, saving, y, s.mlp_norm, p.mlp_norm, policy, [&](nn::Output out, ConstTensor in) {
    s.mlp = Mlp::forward(ctx, saving, out, in, p.mlp);
  });
  saving.drop();
  return s;
}

void Block::backward(Context& ctx, Tensor d, const Params& grads, const Params& p, const Policy& policy,
                     const Attention::Tokens& tokens, const Saved& kept) {
  Saved s = kept;
  {
    Arena::Scope scope(*ctx.scratch);
    nn::Saving again(*ctx.scratch);
    if (again.make(ctx, s.h, Keep::all, d.dtype, d.shape)) {
      leave(ctx, again, s.h, s.mixer_norm, p.mixer_norm, policy);
    }
    s.mlp_norm.x = s.h;
    sublayer_backward(ctx, d, grads.mlp_norm, s.mlp_norm, p.mlp_norm, policy,
                      [&](Tensor dx, ConstTensor dy, ConstTensor input) {
                        s.mlp.x = input;
                        Mlp::backward(ctx, dx, grads.mlp, dy, p.mlp, s.mlp);
                      });
  }
  sublayer_backward(ctx, d, grads.mixer_norm, s.mixer_norm, p.mixer_norm, policy,
                    [&](Tensor dx, ConstTensor dy, ConstTensor input) {
                      std::visit([&](auto& mixer) { mixer.x = input; }, s.mixer);
                      mixer_backward(ctx, dx, grads, dy, p, policy, tokens, s);
                    });
}

void Block::step(Context& ctx, Tensor y, ConstTensor x, const Params& p, const Policy& policy,
                 const Attention::Tokens& tokens, const State& state) {
  Arena::Scope scope(*ctx.scratch);
  nn::Saving scratch(*ctx.scratch);
  const Tensor h = ctx.scratch->make(x.dtype, x.shape);
  NormSaved mixer_norm, mlp_norm;
  mixer_norm.x = x;
  mlp_norm.x = h;
  sublayer_forward(ctx, scratch, h, mixer_norm, p.mixer_norm, policy, [&](nn::Output out, ConstTensor in) {
    if (const auto* attention = std::get_if<Attention::Params>(&p.mixer)) {
      Attention::step(ctx, out, in, *attention, std::get<Attention::Policy>(policy.mixer), tokens,
                      std::get<Attention::State>(state));
    } else {
      GatedDeltaNet::step(ctx, out, in, std::get<GatedDeltaNet::Params>(p.mixer),
                          std::get<GatedDeltaNet::Policy>(policy.mixer), tokens.segments,
                          std::get<GatedDeltaNet::State>(state));
    }
  });
  sublayer_forward(ctx, scratch, y, mlp_norm, p.mlp_norm, policy,
                   [&](nn::Output out, ConstTensor in) { Mlp::step(ctx, out, in, p.mlp); });
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
