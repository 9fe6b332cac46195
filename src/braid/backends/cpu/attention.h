// Sizes, work list and scratch memory of blocked attention (FlashAttention, Dao et al. 2022).
#pragma once
#include <cmath>

#include "braid/backends/cpu/segments.h"
#include "braid/backends/cpu/state.h"
#include "braid/ops/attention.h"

namespace braid::cpu {

// A task takes kQueries tokens of one sequence and one head through its keys, kKeys at a time. Blocks of keys
// count from position 0 of the sequence, so a token's arithmetic depends on its own position alone.
inline constexpr std::int64_t kQueries = 64;
inline constexpr std::int64_t kKeys = 84;  // divisible by every tile height
inline constexpr std::int64_t kMostHeadWidth = 256;
inline constexpr std::int64_t kKeyStride = kMostHeadWidth + 16;  // of key rows being multiplied

// D rounded up to whole tiles.
constexpr std::int64_t padded_width(std::int64_t D) { return (D + 31) / 32 * 32; }

struct AttentionProblem {
  std::int64_t heads, kv_heads, width, window;
  float scale;
  std::int64_t group() const { return heads / kv_heads; }
  // First position that position p sees.
  std::int64_t first_visible(std::int64_t p) const {
    return window == 0 ? 0 : std::max<std::int64_t>(0, p - window + 1);
  }
};

inline AttentionProblem attention_problem(const ops::AttentionInputs& in,
                                          const ops::AttentionOptions& options) {
  const auto width = in.q.shape[2];
  const double scale = options.scale != 0 ? options.scale : 1.0 / std::sqrt(static_cast<double>(width));
  return {in.q.shape[1], in.k.shape[1], width, options.window, static_cast<float>(scale)};
}

inline void require_attention(std::string_view op, const ops::AttentionInputs& in,
                              const ops::Segments& segments) {
  require_f32(op, {in.q, in.k, in.v});
  require_segments(op, segments, in.q.shape[0]);
  require(in.q.shape[2] <= kMostHeadWidth, "{}: head width {} is more than {}", op, in.q.shape[2],
          kMostHeadWidth);
}

// Consecutive queries of one segment.
struct QueryTile {
  std::int32_t segment, begin, count;  // begin: token in the flat run
};

// There are at most N / kQueries + S tiles.
inline Tensor make_query_tiles(Context& ctx, const ops::AttentionInputs& in, const ops::Segments& segments) {
  return ctx.scratch->make(DType::i32, {in.q.shape[0] / kQueries + segments.count(), 3});
}

inline std::int64_t list_query_tiles(const Tensor& memory, const ops::Segments& segments) {
  auto* tiles = static_cast<QueryTile*>(memory.mutable_data());
  const std::int32_t* offset = segments.offsets.as<std::int32_t>();
  std::int64_t count = 0;
  for (std::int64_t s = 0; s < segments.count(); ++s) {
    for (std::int32_t n = offset[s]; n < offset[s + 1]; n += kQueries) {
      const auto length = std::min(static_cast<std::int32_t>(kQueries), offset[s + 1] - n);
      tiles[count++] = {static_cast<std::int32_t>(s), n, length};
    }
  }
  return count;
}

// Floats of work space per thread: see AttentionWork in attention-inl.h.
constexpr std::int64_t attention_work_size(std::int64_t D) {
  const std::int64_t width = padded_width(D);
  return 2 * width * kQueries + 3 * kQueries * width + 2 * kKeys * kQueries + 2 * kKeys * width +
         16 * kKeyStride + 4 * kQueries;
}

struct AttentionScratch {
  Tensor tiles, work;
};

inline AttentionScratch make_attention_scratch(Context& ctx, const ops::AttentionInputs& in,
                                               const ops::Segments& segments) {
  return {.tiles = make_query_tiles(ctx, in, segments),
          .work = ctx.scratch->make(DType::f32, {state_of(ctx).threads, attention_work_size(in.q.shape[2])})};
}

}  // namespace braid::cpu
