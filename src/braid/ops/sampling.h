// Choosing the next token of each sequence from its logits.
#pragma once
#include "braid/core/context.h"
#include "braid/ops/segments.h"

namespace braid::ops {

// One row per sequence. The filters apply in the order of transformers' generate(): repetition penalty,
// temperature, top-k, top-p, min-p; each works on what the one before it left.
struct SamplingInputs {
  ConstTensor logits;       // (S, V) f32
  ConstTensor uniform;      // (S) f64 in [0, 1), random: where in the remaining probabilities the token lies
  ConstTensor temperature;  // (S) f64: divides the logits. 0: the best token, the lowest id among equals
  ConstTensor top_k;        // (S) i64: keep the k best tokens, and those equal to the k-th; 0: all
  // (S) f64: keep the fewest best tokens whose probabilities sum to this or more; 1: all. Of equal ones the
  // lower ids are better.
  ConstTensor top_p;
  ConstTensor min_p;  // (S) f64: keep tokens of at least this times the best one's probability; 0: all
  // (S) f64: logits of seen tokens are divided by this when positive, else multiplied (Keskar et al. 2019);
  // 1: off.
  ConstTensor repetition_penalty;
  ConstTensor seen;        // (T) i32, sequence after sequence; ids outside [0, V) count for nothing
  Segments seen_segments;  // of S sequences
};
// What stands for an id where none can be drawn.
enum BrokenLogits : std::int32_t {
  kNotANumber = -1,    // a logit is NaN or +infinity
  kAllImpossible = -2  // every logit is -infinity, which means never
};

// ids (S) i32 overwritten. Only ids below `vocabulary` (0: V) are looked at.
struct SamplingOptions {
  std::int64_t vocabulary = 0;
};
void sampling(Context&, Tensor ids, SamplingInputs, SamplingOptions);

}  // namespace braid::ops
