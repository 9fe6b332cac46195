#include "braid/backends/cpu/attention.h"

#include <cstring>

#include "braid/backends/cpu/kernels.h"
#include "braid/backends/cpu/parallel.h"
#include "braid/backends/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/backends/cpu/attention.cpp"
#include <hwy/foreach_target.h>

#include "braid/backends/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

// Stands for minus infinity without its NaNs.
constexpr float kLowest = -1e30f;

// Where a tile of queries finds and leaves its rows; p is the position of its first query.
struct ForwardTile {
  Rows q, k, v;
  float* y;            // rows like q's
  float* log_sum_exp;  // every `heads` floats; null: not wanted
  std::int64_t p, count;
};

// Softmax of one block of scores, in place, for the queries of one vector: their running maximum and sum.
HWY_INLINE void online_softmax(const AttentionWork& work, const Visibility& seen, std::int64_t q) {
  const Floats d;
  const bool whole = seen.whole();
  float* column = work.scores + q;
  const VecF before = hn::LoadU(d, work.top + q);
  VecF top = before;
  for (std::int64_t key = 0; key < seen.keys; ++key) {
    const VecF s = hn::LoadU(d, column + key * kQueries);
    top = hn::Max(top, whole ? s : hn::IfThenElse(seen.mask(key, q), s, set(kLowest)));
  }
  VecF sum = zero();
  for (std::int64_t key = 0; key < seen.keys; ++key) {
    float* at = column + key * kQueries;
    const VecF e = exp(hn::Sub(hn::LoadU(d, at), top));
    const VecF weight = whole ? e : hn::IfThenElseZero(seen.mask(key, q), e);
    hn::StoreU(weight, d, at);
    sum = hn::Add(sum, weight);
  }
  const VecF factor = exp(hn::Sub(before, top));
  hn::StoreU(top, d, work.top + q);
  hn::StoreU(factor, d, work.factor + q);
  hn::StoreU(hn::MulAdd(hn::LoadU(d, work.total + q), factor, sum), d, work.total + q);
}

HWY_INLINE void scale_rows(float* rows, const float* factor, std::int64_t count, std::int64_t D) {
  for (std::int64_t r = 0; r < count; ++r) {
    if (factor[r] == 1.0f) continue;
    float* row = rows + r * padded_width(D);
    for_vectors(D, [&](std::int64_t j, auto io)
                       HWY_ATTR { io.store(row + j, hn::Mul(io.load(row + j), set(factor[r]))); });
  }
}

void forward_tile(const AttentionProblem& problem, const AttentionWork& work, const ForwardTile& tile) {
  const std::int64_t D = problem.width, width = padded_width(D);
  pack_queries(work.q_transposed, tile.q, tile.count, D, problem.scale);
  std::fill_n(work.sum, kQueries * width, 0.0f);
  std::fill_n(work.top, kQueries, kLowest);
  std::fill_n(work.total, kQueries, 0.0f);
  const std::int64_t end = tile.p + tile.count;  // of the visible keys
  for (std::int64_t first = problem.first_visible(tile.p) / kKeys * kKeys; first < end; first += kKeys) {
    const Visibility seen{tile.p, tile.count, first, std::min(kKeys, end - first), problem.window};
    for (std::int64_t i = 0; i < seen.keys; ++i) prefetch_row(tile.v(first + i), D);
    multiply_keys(work.scores, work, tile.k, first, seen.keys, work.q_transposed, tile.count, D);
    for (std::int64_t q = 0; q < tile.count; q += lanes()) online_softmax(work, seen, q);
    scale_rows(work.sum, work.factor, tile.count, D);
    for (std::int64_t i = 0; i < kKeys && first + kKeys + i < end; ++i) {
      prefetch_row(tile.k(first + kKeys + i), D);
    }
    pack_panels(work.v_panels, tile.v, first, seen.keys, kKeys, D);
    multiply_weights(work.sum, work.scores, work.v_panels, seen.keys, tile.count, D);
  }
  for (std::int64_t i = 0; i < tile.count; ++i) {
    const VecF inverse = set(1.0f / work.total[i]);
    const float* from = work.sum + i * width;
    float* to = tile.y + i * tile.q.stride;
    for_vectors(
        D, [&](std::int64_t j, auto io) HWY_ATTR { io.store(to + j, hn::Mul(io.load(from + j), inverse)); });
    if (tile.log_sum_exp != nullptr) {
      tile.log_sum_exp[i * problem.heads] = work.top[i] + std::log(work.total[i]);
    }
  }
}

void attention_forward(Context& ctx, Tensor y, Tensor log_sum_exp, ops::AttentionInputs in,
                       const AttentionScratch& scratch, std::int64_t tiles, const AttentionProblem& problem,
                       ops::Segments segments) {
  const std::int64_t H = problem.heads, D = problem.width, kv_stride = problem.kv_heads * D;
  const auto* tile = static_cast<const QueryTile*>(scratch.tiles.data);
  const std::int32_t* offset = segments.offsets.as<std::int32_t>();
  parallel_for(
      ctx, tiles * H,
      [&](std::int64_t task, int thread) HWY_ATTR {
        const QueryTile t = tile[task / H];
        const std::int64_t h = task % H, begin = offset[t.segment];
        const std::int64_t query = (t.begin * H + h) * D, key = begin * kv_stride + h / problem.group() * D;
        const AttentionWork work(scratch.work.as<float>() + thread * scratch.work.shape[1], D);
        forward_tile(problem, work,
                     {.q = {in.q.as<float>() + query, H * D, kUnlimited},
                      .k = {in.k.as<float>() + key, kv_stride, kUnlimited},
                      .v = {in.v.as<float>() + key, kv_stride, kUnlimited},
                      .y = y.as<float>() + query,
                      .log_sum_exp = log_sum_exp.as<float>() + t.begin * H + h,
                      .p = t.begin - begin,
                      .count = t.count});
      },
      Schedule::next_free);
}

void attention_cached(Context& ctx, Tensor y, ops::KeyValueCache cache, ops::AttentionInputs in,
                      const AttentionScratch& scratch, std::int64_t tiles, const AttentionProblem& problem,
                      ops::Segments segments, ConstTensor lengths) {
  const std::int64_t H = problem.heads, D = problem.width, kv_stride = problem.kv_heads * D;
  const std::int64_t capacity = cache.k.shape[1];
  const auto* tile = static_cast<const QueryTile*>(scratch.tiles.data);
  const std::int32_t *offset = segments.offsets.as<std::int32_t>(), *length = lengths.as<std::int32_t>();
  parallel_for(
      ctx, tiles * H,
      [&](std::int64_t task, int thread) HWY_ATTR {
        const QueryTile t = tile[task / H];
        const std::int64_t h = task % H;
        const std::int64_t query = (t.begin * H + h) * D;
        const std::int64_t key = t.segment * capacity * kv_stride + h / problem.group() * D;
        const AttentionWork work(scratch.work.as<float>() + thread * scratch.work.shape[1], D);
        forward_tile(problem, work,
                     {.q = {in.q.as<float>() + query, H * D, kUnlimited},
                      .k = {cache.k.as<float>() + key, kv_stride, capacity},
                      .v = {cache.v.as<float>() + key, kv_stride, capacity},
                      .y = y.as<float>() + query,
                      .log_sum_exp = nullptr,
                      .p = length[t.segment] + t.begin - offset[t.segment],
                      .count = t.count});
      },
      Schedule::next_free);
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid::cpu {
namespace {

// Writes the new keys or values behind those in the cache.
void append(const Tensor& cache, const ConstTensor& x, const ops::Segments& segments,
            const ConstTensor& lengths) {
  const std::int64_t capacity = cache.shape[1], token = x.shape[1] * x.shape[2];
  const std::int32_t* offset = segments.offsets.as<std::int32_t>();
  for (std::int64_t s = 0; s < segments.count(); ++s) {
    const std::int64_t length = lengths.as<std::int32_t>()[s];
    for (std::int64_t n = offset[s]; n < offset[s + 1]; ++n) {
      const std::int64_t slot = s * capacity + (length + n - offset[s]) % capacity;
      std::memcpy(cache.as<float>() + slot * token, x.as<float>() + n * token,
                  static_cast<std::size_t>(token) * 4);
    }
  }
}

}  // namespace

HWY_EXPORT(attention_forward);
void attention_forward(Context& ctx, Tensor y, Tensor log_sum_exp, ops::AttentionInputs in,
                       ops::Segments segments, ops::AttentionOptions options) {
  require_attention("attention_forward", in, segments);
  const Arena::Scope scope(*ctx.scratch);
  const AttentionScratch scratch = make_attention_scratch(ctx, in, segments);
  const std::int64_t tiles = list_query_tiles(scratch.tiles, segments);
  HWY_DYNAMIC_DISPATCH(attention_forward)
  (ctx, y, log_sum_exp, in, scratch, tiles, attention_problem(in, options), segments);
}

void scratch::attention_forward(Context& ctx, Tensor, Tensor, ops::AttentionInputs in, ops::Segments segments,
                                ops::AttentionOptions) {
  const Arena::Scope scope(*ctx.scratch);
  make_attention_scratch(ctx, in, segments);
}

HWY_EXPORT(attention_cached);
void attention_cached(Context& ctx, Tensor y, ops::KeyValueCache cache, ops::AttentionInputs in,
                      ops::Segments segments, ConstTensor lengths, ops::AttentionOptions options) {
  require_attention("attention_cached", in, segments);
  const std::int64_t capacity = cache.k.shape[1];
  const std::int32_t* offset = segments.offsets.as<std::int32_t>();
  for (std::int64_t s = 0; s < segments.count(); ++s) {
    const std::int64_t added = offset[s + 1] - offset[s], length = lengths.as<std::int32_t>()[s];
    const std::int64_t all = length + added;
    require(cache.longest.value_or(length) >= length,
            "attention_cached: sequence {} has {} cached tokens, cache.longest is {}", s, length,
            cache.longest.value_or(0));
    const std::int64_t needed = options.window == 0 ? all : std::min(all, options.window + added - 1);
    require(needed <= capacity, "attention_cached: sequence {} needs {} cached tokens, cache.k is {}", s,
            needed, describe(cache.k));
  }
  const Arena::Scope scope(*ctx.scratch);
  const AttentionScratch scratch = make_attention_scratch(ctx, in, segments);
  const std::int64_t tiles = list_query_tiles(scratch.tiles, segments);
  append(cache.k, in.k, segments, lengths);
  append(cache.v, in.v, segments, lengths);
  HWY_DYNAMIC_DISPATCH(attention_cached)
  (ctx, y, cache, in, scratch, tiles, attention_problem(in, options), segments, lengths);
}

void scratch::attention_cached(Context& ctx, Tensor, ops::KeyValueCache, ops::AttentionInputs in,
                               ops::Segments segments, ConstTensor, ops::AttentionOptions) {
  const Arena::Scope scope(*ctx.scratch);
  make_attention_scratch(ctx, in, segments);
}

}  // namespace braid::cpu
#endif
