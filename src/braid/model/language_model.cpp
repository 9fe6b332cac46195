#include "braid/model/language_model.h"

#include <algorithm>

#include "braid/nn/linear.h"
#include "braid/ops/cross_entropy.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/embedding.h"
#include "braid/ops/rms_norm.h"

namespace braid::model {
namespace {

struct Normed {
  Tensor y, inverse_rms;
};

Normed final_norm(Context& ctx, Arena& step, ConstTensor x, const Parameters& p, const Policy& policy) {
  const Normed n{step.make(x.dtype, x.shape), step.make(accumulator_of(x.dtype), {x.shape[0]})};
  ops::rms_norm_forward(ctx, n.y, n.inverse_rms, x, p.final_norm, {.epsilon = policy.norm_epsilon});
  return n;
}

Tensor embed(Context& ctx, Arena& arena, const Parameters& p, const Policy& policy, const Batch& batch) {
  const Tensor x = arena.make(policy.activations, {batch.ids.shape[0], p.final_norm.shape[0]});
  ops::embedding_forward(ctx, x, batch.ids, p.embedding);
  return x;
}

// Forward only, through the final norm: two buffers take turns.
Tensor forward_for_scoring(Context& ctx, Arena& step, const Parameters& p, const Policy& policy,
                           const Batch& batch) {
  Tensor x = embed(ctx, step, p, policy, batch);
  Tensor y = step.make(x.dtype, x.shape);
  for (std::size_t i = 0; i < p.blocks.size(); ++i) {
    Block::forward(ctx, {step, nn::Keep::input}, y, x, p.blocks[i], policy.blocks[i], batch.tokens);
    std::swap(x, y);
  }
  return final_norm(ctx, step, x, p, policy).y;
}

struct HeadGradients {
  Tensor dx, dhead;  // undefined: loss only
};

// Head product, loss and gradients, a few rows of logits at a time.
void head_loss(Context& ctx, TokenLosses out, HeadGradients grads, ConstTensor x, ConstTensor head,
               ConstTensor targets, ConstTensor weights, LossOptions options) {
  Arena::Scope scope(*ctx.scratch);
  const auto tokens = x.shape[0], rows = std::min(head_rows(head.shape[0], x.dtype), tokens);
  const bool wanted = grads.dx.defined();
  const Tensor all_logits = ctx.scratch->make(x.dtype, {rows, head.shape[0]});
  for (std::int64_t begin = 0; begin < tokens; begin += rows) {
    const auto n = std::min(rows, tokens - begin);
    const Tensor logits = rows_of(all_logits, 0, n);
    nn::linear(ctx, logits, rows_of(x, begin, n), head);
    ops::cross_entropy(ctx, rows_of(out.loss, begin, n), rows_of(out.log_sum_exp, begin, n), logits,
                       rows_of(targets, begin, n),
                       weights.defined() ? rows_of(weights, begin, n) : ConstTensor{},
                       {.scale = options.scale,
                        .z_loss = options.z_loss,
                        .gradient = wanted ? ops::LossGradient::yes : ops::LossGradient::no});
    if (wanted) {
      nn::linear_backward(ctx, rows_of(grads.dx, begin, n), grads.dhead, logits, rows_of(x, begin, n), head);
    }
  }
}

// Loss and gradients of everything from block i on, given its input x. What a block keeps is released when
// its backward is done, before that of the block below: activations grow and shrink like a stack.
struct Pass {
  Context& ctx;
  Arena& step;
  TokenLosses out;
  const Parameters &grads, &p;
  const Policy& policy;
  const Batch& batch;
  LossOptions options;
  Tensor d;  // (N, C): overwritten with the gradient of x

  void from_block(std::size_t i, ConstTensor x) {
    if (i == p.blocks.size()) return head(x);
    Arena::Scope scope(step);
    const auto forward = [&](nn::Keep keep, Tensor y) {
      return Block::forward(ctx, {step, keep}, y, x, p.blocks[i], policy.blocks[i], batch.tokens);
    };
    const Tensor y = step.make(x.dtype, x.shape);
    const auto keep = options.keep.of(i);
    Block::Saved saved = forward(keep, y);
    from_block(i + 1, y);
    if (keep == nn::Keep::input) saved = forward(nn::Keep::all, Tensor{});
    Block::backward(ctx, d, grads.blocks[i], p.blocks[i], policy.blocks[i], batch.tokens, saved);
  }
  void head(ConstTensor x) {
    Arena::Scope scope(step);
    const Normed normed = final_norm(ctx, step, x, p, policy);
    head_loss(ctx, out, {d, grads.output_head()}, normed.y, p.output_head(), batch.targets, batch.weights,
              options);
    ops::rms_norm_backward(ctx, d, grads.final_norm, d, {x, p.final_norm, normed.inverse_rms},
                           ops::Accumulate::no);
  }
};

}  // namespace

LossSums sum_losses(Memory& memory, const TokenLosses& losses) {
  const auto loss = to_host<float>(memory, losses.loss), lse = to_host<float>(memory, losses.log_sum_exp);
  LossSums sum;
  for (std::size_t i = 0; i < loss.size(); ++i) {
    sum.loss += loss[i];
    sum.squared_log_sum_exp += static_cast<double>(lse[i]) * lse[i];
  }
  return sum;
}

std::int64_t head_rows(std::int64_t vocabulary_size, DType logits) {
  constexpr std::int64_t kLogits = std::int64_t{1} << 24;  // 64 MB of f32
  if (logits == DType::bf16) return std::max<std::int64_t>(kLogits / vocabulary_size, 2048);
  return std::clamp<std::int64_t>(kLogits / vocabulary_size, 64, 2048);
}

void loss_and_gradients(Context& ctx, Arena& step, TokenLosses out, const Parameters& grads,
                        const Parameters& p, const Policy& policy, const Batch& batch, LossOptions options) {
  Arena::Scope scope(step);
  const Tensor x = embed(ctx, step, p, policy, batch);
  const Tensor d = step.make(x.dtype, x.shape);
  Pass{ctx, step, out, grads, p, policy, batch, options, d}.from_block(0, x);
  ops::embedding_backward(ctx, grads.embedding, d, batch.ids);
  if (policy.frozen_embedding) ops::fill(ctx, rows_of(grads.embedding, *policy.frozen_embedding, 1), 0);
}

void score(Context& ctx, Arena& step, TokenLosses out, const Parameters& p, const Policy& policy,
           const Batch& batch) {
  Arena::Scope scope(step);
  const Tensor normed = forward_for_scoring(ctx, step, p, policy, batch);
  head_loss(ctx, out, {}, normed, p.output_head(), batch.targets, {}, {});
}

void compute_logits(Context& ctx, Arena& step, Tensor logits, const Parameters& p, const Policy& policy,
                    const Batch& batch, ConstTensor rows) {
  Arena::Scope scope(step);
  ConstTensor normed = forward_for_scoring(ctx, step, p, policy, batch);
  if (rows.defined()) {  // a look-up with the hidden states as its table
    const Tensor some = step.make(normed.dtype, {rows.shape[0], normed.shape[1]});
    ops::embedding_forward(ctx, some, rows, normed);
    normed = some;
  }
  nn::linear(ctx, logits, normed, p.output_head());
}

}  // namespace braid::model
