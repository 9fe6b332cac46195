// The whole model over flat batches of tokens: loss with gradients, loss alone, logits. A training step's
// memory is two arenas: `step` keeps what backward needs, ctx.scratch what one op or layer needs.
#pragma once
#include <vector>

#include "braid/model/parameters.h"
#include "braid/model/policy.h"

namespace braid::model {

struct Batch {
  ConstTensor ids;      // (N) i32
  ConstTensor targets;  // (N) i32, negative: not predicted; undefined where no loss is asked
  nn::Attention::Tokens tokens;
  ConstTensor weights{};  // (N) f32, of each token's loss in the gradients; undefined: all 1
};

// What the blocks keep for their backward: the first so many one level, the others another.
struct KeepPlan {
  nn::Keep first = nn::Keep::all, rest = nn::Keep::all;
  std::int64_t first_blocks = 0;

  static KeepPlan all_blocks(nn::Keep keep) { return {keep, keep, 0}; }
  nn::Keep of(std::size_t block) const {
    return static_cast<std::int64_t>(block) < first_blocks ? first : rest;
  }
};

struct LossOptions {
  // (1) f64: weight of each token's loss in the gradients, 1 / predicted tokens of the whole batch;
  // undefined: 1
  ConstTensor scale{};
  double z_loss = 0;  // coefficient of logsumexp²
  KeepPlan keep{};
};

struct TokenLosses {
  Tensor loss, log_sum_exp;  // (N), accumulator dtype; 0 where not predicted
};

// Sums over the tokens in their order.
struct LossSums {
  double loss = 0, squared_log_sum_exp = 0;
};
LossSums sum_losses(Memory& memory, const TokenLosses& losses);

// Adds the gradients of scale · Σ weight · (loss + z_loss · logsumexp²) into `grads`.
void loss_and_gradients(Context&, Arena& step, TokenLosses out, const Parameters& grads, const Parameters&,
                        const Policy&, const Batch&, LossOptions);
// The same losses, no gradients.
void score(Context&, Arena& step, TokenLosses out, const Parameters&, const Policy&, const Batch&);
// logits (N, V), of the activations' dtype or its accumulator dtype; with `rows` (M) i32 (M, V), of these
// tokens.
void compute_logits(Context&, Arena& step, Tensor logits, const Parameters&, const Policy&, const Batch&,
                    ConstTensor rows = {});

// Rows of logits that exist at one time in the loss, so that full logits are never stored: about 64 MB of
// them in f32, and at most 2048 rows; in bf16 2048 rows at least, where the matrix units want many and each
// pass over the head's gradient costs more, and as many as 32 MB hold.
std::int64_t head_rows(std::int64_t vocabulary_size, DType logits);

}  // namespace braid::model
