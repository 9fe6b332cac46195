// What a cuDNN attention plan is made for, and the pure functions that choose it.
#pragma once
#include <compare>
#include <cstdint>

#include "braid/ops/attention.h"

namespace braid::cuda::cudnn {

// Packed problems are padded upward (with empty sequences), so that the packs of a run share a few plans.
struct Problem {
  bool backward, packed;            // not packed: all sequences have `longest` tokens
  std::int64_t sequences, longest;  // B, S
  std::int64_t tokens;              // at least N
  std::int64_t heads, kv_heads;     // that one call computes
  std::int64_t all_heads, all_kv_heads;
  std::int64_t width, window;  // window 0: everything before
  float scale;
  std::int64_t capacity;  // slots of the cache that holds the keys, 0: they lie beside the queries
  auto operator<=>(const Problem&) const = default;
  std::int64_t calls() const { return all_kv_heads / kv_heads; }
};

Problem problem_of(const ops::AttentionInputs& in, const ops::Segments& segments,
                   const ops::AttentionOptions& options, bool backward);

// Forward with keys in a cache: always packed, without statistics.
Problem cached_problem_of(const ops::AttentionInputs& in, const ops::KeyValueCache& cache,
                          const ops::Segments& segments, const ops::AttentionOptions& options);

// The reproducible backward keeps the gradients of all scores of a call: B·H·S² bf16.
double score_bytes(const Problem& p);
// A call for the heads of one key/value head may need so much.
inline constexpr double kMostScoreBytes = 4.0 * (1 << 30);

}  // namespace braid::cuda::cudnn
