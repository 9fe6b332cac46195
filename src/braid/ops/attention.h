// Causal softmax attention with grouped heads, an optional sliding window, and document boundaries.
#pragma once
#include <optional>

#include "braid/core/context.h"
#include "braid/ops/segments.h"

namespace braid::ops {

struct AttentionInputs {
  ConstTensor q;     // (N, H, D)
  ConstTensor k, v;  // (N, Hkv, D); query head h reads key/value head h / (H / Hkv)
};
struct AttentionGradients {
  Tensor q, k, v;  // overwritten
};
struct AttentionOptions {
  std::int64_t window = 0;  // a token sees itself and window - 1 tokens before it; 0: everything before it
  double scale = 0;         // 0: 1 / sqrt(D)
};

// y (N, H, D); log_sum_exp (N, H), accumulator dtype, of the scaled scores, for backward.
void attention_forward(Context&, Tensor y, Tensor log_sum_exp, AttentionInputs, Segments, AttentionOptions);

struct AttentionOutputs {
  ConstTensor y, log_sum_exp;
};
void attention_backward(Context&, AttentionGradients, ConstTensor dy, AttentionInputs, AttentionOutputs,
                        Segments, AttentionOptions);

// Keys and values of sequences in progress: position p of sequence s lives at [s, p % capacity].
struct KeyValueCache {
  Tensor k, v;  // (S, capacity, Hkv, D)
  // What the host knows of the sequences before the call: none has more tokens here. Not set: not known. The
  // results do not depend on it, but kernels are chosen by it: a GPU does not check it, and where it is too
  // low it may miss tokens.
  std::optional<std::int64_t> longest{};
};
// Prefill and decode: segment s of the inputs holds the next tokens of sequence s, which has lengths[s] (S,
// i32) tokens in the cache already. Appends k and v to the cache, then attends to everything in it. The
// capacity must hold what is still visible: lengths + new tokens, or window + longest segment - 1.
void attention_cached(Context&, Tensor y, KeyValueCache, AttentionInputs, Segments, ConstTensor lengths,
                      AttentionOptions);

}  // namespace braid::ops
