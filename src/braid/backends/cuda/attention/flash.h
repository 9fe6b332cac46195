// Own attention kernels (FlashAttention, Dao et al. 2022): what their launches share. Positions count from
// the first token of a sequence; with a cache, lengths[s] of them lie before the call's first token of
// sequence s.
#pragma once
#include <cmath>
#include <limits>

#include "braid/backends/cuda/launch.h"
#include "braid/ops/attention.h"

namespace braid::cuda::flash {

inline constexpr std::int64_t kMostHeadWidth = 256;
inline constexpr float kLog2E = 1.4426950408889634F;

struct Problem {
  const std::int32_t* offsets;  // of the segments, on the device
  const std::int32_t*
      lengths;  // tokens cached before each segment; null: none, and keys lie beside the queries
  std::int64_t tokens;
  std::int32_t segments, heads, kv_heads, width;
  std::int32_t window;     // a token sees positions above its own minus window; never 0
  std::uint32_t capacity;  // slots of the cache's ring; without a cache beyond every position
  float scale;
};

inline Problem make_problem(const char* op, const ops::AttentionInputs& in, const ops::Segments& segments,
                            const ops::AttentionOptions& options) {
  constexpr std::int64_t kAll = std::numeric_limits<std::int32_t>::max();
  const auto width = in.q.shape[2];
  require(width <= kMostHeadWidth, "{}: q is {}: a head wider than {} is not supported on cuda", op,
          describe(in.q), kMostHeadWidth);
  return {.offsets = pointer<std::int32_t>(segments.offsets),
          .lengths = nullptr,
          .tokens = in.q.shape[0],
          .segments = static_cast<std::int32_t>(segments.count()),
          .heads = static_cast<std::int32_t>(in.q.shape[1]),
          .kv_heads = static_cast<std::int32_t>(in.k.shape[1]),
          .width = static_cast<std::int32_t>(width),
          .window = static_cast<std::int32_t>(options.window == 0 ? kAll : std::min(options.window, kAll)),
          .capacity = std::numeric_limits<std::uint32_t>::max(),
          .scale = static_cast<float>(options.scale != 0 ? options.scale
                                                         : 1.0 / std::sqrt(static_cast<double>(width)))};
}

// Calls f.template operator()<W>() with the least kernel width W that holds a head of `width`.
template <class F>
void visit_width(std::int64_t width, F&& f) {
  if (width <= 64) return f.template operator()<64>();
  if (width <= 128) return f.template operator()<128>();
  f.template operator()<256>();
}

// y and log_sum_exp (undefined: not wanted); k and v are (N, Hkv, D), or the cache when problem.lengths is
// set.
void forward(Context&, Tensor y, Tensor log_sum_exp, ConstTensor q, ConstTensor k, ConstTensor v,
             const Problem&);
// The same on the tensor cores, for bf16 heads of at most 128 in whole 16-byte pieces.
void forward_bf16(Context&, Tensor y, Tensor log_sum_exp, ConstTensor q, ConstTensor k, ConstTensor v,
                  const Problem&);
constexpr bool on_tensor_cores(DType dtype, std::int64_t width) {
  return dtype == DType::bf16 && width % 8 == 0 && width <= 128;
}

// row_dot (N, H), f32: scratch for dy · y.
void backward(Context&, const ops::AttentionGradients&, ConstTensor dy, const ops::AttentionInputs&,
              const ops::AttentionOutputs&, Tensor row_dot, const Problem&);
// The same on the tensor cores, for what forward_bf16 takes.
void backward_bf16(Context&, const ops::AttentionGradients&, ConstTensor dy, const ops::AttentionInputs&,
                   const ops::AttentionOutputs&, Tensor row_dot, const Problem&);

// Few new tokens against long caches: `splits` blocks share each token's keys, or all blocks those of all
// tokens.
struct DecodeScratch {
  std::int32_t splits;
  Tensor sums;   // (rows, D): values weighted by exp(score - top), a row for each piece of a query's keys
  Tensor stats;  // (as many, 2): top score, sum of the weights
};
DecodeScratch make_decode_scratch(Context&, const ops::AttentionInputs&, const ops::KeyValueCache&,
                                  const ops::AttentionOptions&);
// Whether there are counters for so many tokens and heads.
bool decode_supports(const ops::AttentionInputs&);
// append: no sequence has more than one token, and in.k and in.v are put into the caches on the way, whose
// other keys and values may be fetched ahead where the context says so; else they are there.
void decode(Context&, Tensor y, const ops::KeyValueCache&, const ops::AttentionInputs&, bool append,
            const DecodeScratch&, const Problem&);

}  // namespace braid::cuda::flash
