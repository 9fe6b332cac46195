#include "braid/backends/cpu/attention.h"
#include "braid/backends/cpu/kernels.h"
#include "braid/backends/cpu/parallel.h"
#include "braid/backends/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/backends/cpu/attention_backward.cpp"
#include <hwy/foreach_target.h>

#include "braid/backends/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

// Where a tile of queries finds and leaves its rows; p is the position of its first query; `following`
// queries come after it.
struct BackwardTile {
  Rows q, k, v, y, dy;
  float *dq, *dk, *dv;       // rows like those of q and k
  const float* log_sum_exp;  // every `heads` floats
  std::int64_t p, count, following;
};

// With P = e^(scores − log_sum_exp): scores become P, dscores (dy · v) become scale · P (dscores − delta).
HWY_INLINE void score_gradients(const AttentionWork& work, const Visibility& seen, float scale,
                                std::int64_t q) {
  const Floats d;
  const bool whole = seen.whole();
  const VecF log_sum = hn::LoadU(d, work.top + q), delta = hn::LoadU(d, work.delta + q);
  for (std::int64_t key = 0; key < seen.keys; ++key) {
    float *score = work.scores + key * kQueries + q, *gradient = work.dscores + key * kQueries + q;
    const VecF e = exp(hn::Sub(hn::LoadU(d, score), log_sum));
    const VecF weight = whole ? e : hn::IfThenElseZero(seen.mask(key, q), e);
    hn::StoreU(weight, d, score);
    hn::StoreU(hn::Mul(hn::Mul(weight, set(scale)), hn::Sub(hn::LoadU(d, gradient), delta)), d, gradient);
  }
}

// out rows (keys, D) += weights (keys, kQueries) · panels of kQueries rows.
HWY_INLINE void add_key_gradient(float* out, std::int64_t stride, const float* weights, const float* panels,
                                 const Visibility& seen, std::int64_t D) {
  const std::int64_t queries = filled_queries(seen.count);
  for (std::int64_t d = 0; d < D; d += kTileColumns) {
    for (std::int64_t key = 0; key < seen.keys; key += kTileRows) {
      tile_product<TileLayout<kQueries, 1>>(queries, weights + key * kQueries, panels + d * kQueries,
                                            out + key * stride + d, stride, seen.keys - key, D - d, true);
    }
  }
}

// delta = dy · y, summed in the order in which dy · v is: for a token that sees only itself they cancel.
HWY_INLINE void sum_delta(const AttentionWork& work, const BackwardTile& tile, std::int64_t D) {
  const float* y_transposed = work.q_transposed;  // until q takes its place
  pack_queries(work.q_transposed, tile.y, tile.count, D, 1.0f);
  for (std::int64_t q = 0; q < tile.count; q += lanes()) {
    const std::int64_t column = q / kTileColumns * kTileColumns * D + q % kTileColumns;
    VecF dot = zero();
    for (std::int64_t at = column; at < column + D * kTileColumns; at += kTileColumns) {
      const VecF y = hn::LoadU(Floats(), y_transposed + at),
                 dy = hn::LoadU(Floats(), work.dy_transposed + at);
      dot = hn::MulAdd(y, dy, dot);
    }
    hn::StoreU(dot, Floats(), work.delta + q);
  }
}

// The queries' side, once per tile: both forms of q and dy, delta, log_sum_exp, dq = 0. What lies beyond the
// last query is zero, so it adds nothing to dk and dv.
HWY_INLINE void prepare_queries(const AttentionProblem& problem, const AttentionWork& work,
                                const BackwardTile& tile) {
  const std::int64_t D = problem.width, width = padded_width(D);
  std::fill_n(work.q_panels, kQueries * width, 0.0f);
  std::fill_n(work.dy_panels, kQueries * width, 0.0f);
  std::fill_n(work.sum, kQueries * width, 0.0f);
  std::fill_n(work.delta, kQueries, 0.0f);
  std::fill_n(work.top, kQueries, 0.0f);
  pack_queries(work.dy_transposed, tile.dy, tile.count, D, 1.0f);
  sum_delta(work, tile, D);
  pack_queries(work.q_transposed, tile.q, tile.count, D, problem.scale);
  pack_panels(work.q_panels, tile.q, 0, tile.count, kQueries, D);
  pack_panels(work.dy_panels, tile.dy, 0, tile.count, kQueries, D);
  for (std::int64_t i = 0; i < tile.count; ++i) work.top[i] = tile.log_sum_exp[i * problem.heads];
}

// Asks for the queries of the next tile: rows of one head lie apart, and packing them would wait for each.
HWY_INLINE void prefetch_following(const BackwardTile& tile, std::int64_t D) {
  for (std::int64_t i = kQueries; i < kQueries + tile.following; ++i) {
    for (const Rows& rows : {tile.dy, tile.y, tile.q}) prefetch_row(rows(i), D);
  }
}

void backward_tile(const AttentionProblem& problem, const AttentionWork& work, const BackwardTile& tile) {
  const std::int64_t D = problem.width, width = padded_width(D);
  prepare_queries(problem, work, tile);
  prefetch_following(tile, D);
  const std::int64_t end = tile.p + tile.count, stride = tile.k.stride;
  for (std::int64_t first = problem.first_visible(tile.p) / kKeys * kKeys; first < end; first += kKeys) {
    const Visibility seen{tile.p, tile.count, first, std::min(kKeys, end - first), problem.window};
    multiply_keys(work.scores, work, tile.k, first, seen.keys, work.q_transposed, tile.count, D);
    multiply_keys(work.dscores, work, tile.v, first, seen.keys, work.dy_transposed, tile.count, D);
    for (std::int64_t q = 0; q < filled_queries(tile.count); q += lanes()) {
      score_gradients(work, seen, problem.scale, q);
    }
    add_key_gradient(tile.dv + first * stride, stride, work.scores, work.dy_panels, seen, D);
    add_key_gradient(tile.dk + first * stride, stride, work.dscores, work.q_panels, seen, D);
    pack_panels(work.k_panels, tile.k, first, seen.keys, kKeys, D);
    multiply_weights(work.sum, work.dscores, work.k_panels, seen.keys, tile.count, D);
  }
  for (std::int64_t i = 0; i < tile.count; ++i) {
    const float* from = work.sum + i * width;
    std::copy(from, from + D, tile.dq + i * tile.q.stride);
  }
}

// One task per segment and key/value head: it alone adds to dk and dv there, in the order of heads and tiles.
void attention_backward(Context& ctx, ops::AttentionGradients grads, ConstTensor dy, ops::AttentionInputs in,
                        ops::AttentionOutputs out, const Tensor& work_memory, const AttentionProblem& problem,
                        ops::Segments segments) {
  const std::int64_t H = problem.heads, D = problem.width, kv_stride = problem.kv_heads * D;
  const std::int32_t* offset = segments.offsets.as<std::int32_t>();
  const auto task = [&](std::int64_t i, int thread) HWY_ATTR {
    const std::int64_t kv = i % problem.kv_heads, s = i / problem.kv_heads;
    const std::int64_t begin = offset[s], length = offset[s + 1] - begin, key = begin * kv_stride + kv * D;
    float *dk = grads.k.as<float>() + key, *dv = grads.v.as<float>() + key;
    for (std::int64_t p = 0; p < length; ++p) {
      std::fill_n(dk + p * kv_stride, D, 0.0f);
      std::fill_n(dv + p * kv_stride, D, 0.0f);
    }
    const AttentionWork work(work_memory.as<float>() + thread * work_memory.shape[1], D);
    for (std::int64_t h = kv * problem.group(); h < (kv + 1) * problem.group(); ++h) {
      for (std::int64_t p = 0; p < length; p += kQueries) {
        const std::int64_t row = (begin + p) * H + h;
        const auto queries = [&](const ConstTensor& t) {
          return Rows{t.as<float>() + row * D, H * D, kUnlimited};
        };
        const auto keys = [&](const ConstTensor& t) {
          return Rows{t.as<float>() + key, kv_stride, kUnlimited};
        };
        backward_tile(problem, work,
                      {.q = queries(in.q),
                       .k = keys(in.k),
                       .v = keys(in.v),
                       .y = queries(out.y),
                       .dy = queries(dy),
                       .dq = grads.q.as<float>() + row * D,
                       .dk = dk,
                       .dv = dv,
                       .log_sum_exp = out.log_sum_exp.as<float>() + row,
                       .p = p,
                       .count = std::min(kQueries, length - p),
                       .following = std::clamp<std::int64_t>(length - p - kQueries, 0, kQueries)});
      }
    }
  };
  parallel_for(ctx, segments.count() * problem.kv_heads, task, Schedule::next_free);
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid::cpu {

HWY_EXPORT(attention_backward);
void attention_backward(Context& ctx, ops::AttentionGradients grads, ConstTensor dy, ops::AttentionInputs in,
                        ops::AttentionOutputs out, ops::Segments segments, ops::AttentionOptions options) {
  require_attention("attention_backward", in, segments);
  const Arena::Scope scope(*ctx.scratch);
  const AttentionScratch scratch = make_attention_scratch(ctx, in, segments);
  HWY_DYNAMIC_DISPATCH(attention_backward)
  (ctx, grads, dy, in, out, scratch.work, attention_problem(in, options), segments);
}

void scratch::attention_backward(Context& ctx, ops::AttentionGradients, ConstTensor, ops::AttentionInputs in,
                                 ops::AttentionOutputs, ops::Segments segments, ops::AttentionOptions) {
  const Arena::Scope scope(*ctx.scratch);
  make_attention_scratch(ctx, in, segments);
}

}  // namespace braid::cpu
#endif
