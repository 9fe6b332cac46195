#include "braid/model/language_model.h"

#include <algorithm>

#include "braid/nn/linear.h"
#include "braid/ops/cross_entropy.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/embedding.h"
#include "braid/ops/rms_norm.h"

namespace braid::model {
namespace {

struct Stack {
  std::vector<ConstTensor> inputs;   // (N, C) of each block
  std::vector<Block::Saved> blocks;  // empty where they are recomputed
  ConstTensor output;                // (N, C) of the last block
  Tensor normed, inverse_rms;        // final norm
};

void final_norm(Context& ctx, Arena& step, Stack& stack, const Parameters& p, const Policy& policy) {
  stack.normed = step.make(stack.output.dtype, stack.output.shape);
  stack.inverse_rms = step.make(accumulator_of(stack.output.dtype), {stack.output.shape[0]});
  ops::rms_norm_forward(ctx, stack.normed, stack.inverse_rms, stack.output, p.final_norm,
                        {.epsilon = policy.norm_epsilon});
}

Tensor embed(Context& ctx, Arena& arena, const Parameters& p, const Policy& policy, const Batch& batch) {
  const Tensor x = arena.make(policy.activations, {batch.ids.shape[0], p.final_norm.shape[0]});
  ops::embedding_forward(ctx, x, batch.ids, p.embedding);
  return x;
}

bool recomputed(const LossOptions& options, std::size_t block, std::size_t blocks) {
  return options.recompute == Recompute::block &&
         static_cast<std::int64_t>(blocks - block) > options.kept_blocks;
}

Stack forward_for_training(Context& ctx, Arena& step, const Parameters& p, const Policy& policy,
                           const Batch& batch, LossOptions options) {
  Stack stack;
  Tensor x = embed(ctx, step, p, policy, batch);
  for (std::size_t i = 0; i < p.blocks.size(); ++i) {
    const Tensor y = step.make(x.dtype, x.shape);
    stack.inputs.push_back(x);
    if (recomputed(options, i, p.blocks.size())) {
      Arena::Scope scope(step);
      Block::forward(ctx, step, y, x, p.blocks[i], policy.blocks[i], batch.tokens);
      stack.blocks.emplace_back();
    } else {
      stack.blocks.push_back(Block::forward(ctx, step, y, x, p.blocks[i], policy.blocks[i], batch.tokens));
    }
    x = y;
  }
  stack.output = x;
  final_norm(ctx, step, stack, p, policy);
  return stack;
}

// Forward only: two buffers take turns.
Stack forward_for_scoring(Context& ctx, Arena& step, const Parameters& p, const Policy& policy,
                          const Batch& batch) {
  Stack stack;
  Tensor x = embed(ctx, step, p, policy, batch);
  Tensor y = step.make(x.dtype, x.shape);
  for (std::size_t i = 0; i < p.blocks.size(); ++i) {
    Arena::Scope scope(step);
    Block::forward(ctx, step, y, x, p.blocks[i], policy.blocks[i], batch.tokens);
    std::swap(x, y);
  }
  stack.output = x;
  final_norm(ctx, step, stack, p, policy);
  return stack;
}

struct HeadGradients {
  Tensor dx, dhead;  // undefined: loss only
};

// Head product, loss and gradients, a few rows of logits at a time.
void head_loss(Context& ctx, TokenLosses out, HeadGradients grads, ConstTensor x, ConstTensor head,
               ConstTensor targets, LossOptions options) {
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
                       {.scale = options.scale,
                        .z_loss = options.z_loss,
                        .gradient = wanted ? ops::LossGradient::yes : ops::LossGradient::no});
    if (wanted) {
      nn::linear_backward(ctx, rows_of(grads.dx, begin, n), grads.dhead, logits, rows_of(x, begin, n), head);
    }
  }
}

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
  if (logits == DType::bf16) return 2048;
  constexpr std::int64_t kLogits = std::int64_t{1} << 24;  // 64 MB of f32
  return std::clamp<std::int64_t>(kLogits / vocabulary_size, 64, 2048);
}

void loss_and_gradients(Context& ctx, Arena& step, TokenLosses out, const Parameters& grads,
                        const Parameters& p, const Policy& policy, const Batch& batch, LossOptions options) {
  Arena::Scope scope(step);
  const Stack stack = forward_for_training(ctx, step, p, policy, batch, options);
  const Tensor d = step.make(stack.normed.dtype, stack.normed.shape);
  head_loss(ctx, out, {d, grads.output_head()}, stack.normed, p.output_head(), batch.targets, options);
  ops::rms_norm_backward(ctx, d, grads.final_norm, d, {stack.output, p.final_norm, stack.inverse_rms},
                         ops::Accumulate::no);
  for (std::size_t i = p.blocks.size(); i-- > 0;) {
    Arena::Scope block(step);
    if (recomputed(options, i, p.blocks.size())) {
      const Tensor y = step.make(d.dtype, d.shape);
      const auto saved =
          Block::forward(ctx, step, y, stack.inputs[i], p.blocks[i], policy.blocks[i], batch.tokens);
      Block::backward(ctx, d, grads.blocks[i], p.blocks[i], policy.blocks[i], batch.tokens, saved);
    } else {
      Block::backward(ctx, d, grads.blocks[i], p.blocks[i], policy.blocks[i], batch.tokens, stack.blocks[i]);
    }
  }
  ops::embedding_backward(ctx, grads.embedding, d, batch.ids);
  if (policy.frozen_embedding) ops::fill(ctx, rows_of(grads.embedding, *policy.frozen_embedding, 1), 0);
}

void score(Context& ctx, Arena& step, TokenLosses out, const Parameters& p, const Policy& policy,
           const Batch& batch) {
  Arena::Scope scope(step);
  const Stack stack = forward_for_scoring(ctx, step, p, policy, batch);
  head_loss(ctx, out, {}, stack.normed, p.output_head(), batch.targets, {});
}

void compute_logits(Context& ctx, Arena& step, Tensor logits, const Parameters& p, const Policy& policy,
                    const Batch& batch) {
  Arena::Scope scope(step);
  const Stack stack = forward_for_scoring(ctx, step, p, policy, batch);
  nn::linear(ctx, logits, stack.normed, p.output_head());
}

}  // namespace braid::model
