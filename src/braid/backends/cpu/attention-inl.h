// The pieces of blocked attention: packing of queries, keys and values, and the products of a tile of queries
// with a block of keys. Scores are kept transposed, (key, query), so that softmax statistics are vectors of
// queries and the keys need no transposing.
#if defined(BRAID_BACKENDS_CPU_ATTENTION_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_BACKENDS_CPU_ATTENTION_INL_H
#undef BRAID_BACKENDS_CPU_ATTENTION_INL_H
#else
#define BRAID_BACKENDS_CPU_ATTENTION_INL_H
#endif

#include <hwy/cache_control.h>

#include "braid/backends/cpu/attention.h"
#include "braid/backends/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

// A task's memory. "Panels" are (width / kTileColumns, rows, kTileColumns), the right operand of a tile.
struct AttentionWork {
  float *q_transposed, *dy_transposed;  // (kQueries / kTileColumns, D, kTileColumns)
  float* sum;                           // (kQueries, padded D): y or dq
  float *q_panels, *dy_panels;          // of kQueries rows
  float *scores, *dscores;              // (kKeys, kQueries)
  float *k_panels, *v_panels;           // of kKeys rows
  float* rows;                          // (kTileRows, kKeyStride)
  float *top, *total, *factor, *delta;  // (kQueries)

  AttentionWork(float* at, std::int64_t D) {
    const std::int64_t width = padded_width(D);
    const auto take = [&](std::int64_t n) { return std::exchange(at, at + n); };
    q_transposed = take(width * kQueries), dy_transposed = take(width * kQueries);
    sum = take(kQueries * width);
    q_panels = take(kQueries * width), dy_panels = take(kQueries * width);
    scores = take(kKeys * kQueries), dscores = take(kKeys * kQueries);
    k_panels = take(kKeys * width), v_panels = take(kKeys * width);
    rows = take(16 * kKeyStride);
    top = take(kQueries), total = take(kQueries), factor = take(kQueries), delta = take(kQueries);
  }
};

// Rows of D floats, `stride` apart; position p of a cache lies at row p % capacity.
struct Rows {
  const float* base;
  std::int64_t stride, capacity;
  const float* operator()(std::int64_t p) const { return base + (p < capacity ? p : p % capacity) * stride; }
};
inline constexpr std::int64_t kUnlimited = INT64_MAX;

// Vectors (in queries) and tiles that `count` queries take.
HWY_INLINE std::int64_t query_panels(std::int64_t count) { return (count + kTileColumns - 1) / kTileColumns; }

// Columns of scores that multiply_keys fills for `count` queries.
HWY_INLINE std::int64_t filled_queries(std::int64_t count) {
  return count <= lanes() ? lanes() : query_panels(count) * kTileColumns;
}

// out[panel][d][query] = scale · rows(query)[d], zeros beyond `count`.
HWY_INLINE void pack_queries(float* out, Rows rows, std::int64_t count, std::int64_t D, float scale) {
  for (std::int64_t q = 0; q < query_panels(count) * kTileColumns; ++q) {
    float* to = out + q / kTileColumns * kTileColumns * D + q % kTileColumns;
    if (q >= count) {
      for (std::int64_t d = 0; d < D; ++d) to[d * kTileColumns] = 0.0f;
      continue;
    }
    const float* from = rows(q);
    for (std::int64_t d = 0; d < D; ++d) to[d * kTileColumns] = from[d] * scale;
  }
}

// The rows of a head lie apart, so that the processor does not foresee them.
HWY_INLINE void prefetch_row(const float* row, std::int64_t D) {
  for (std::int64_t d = 0; d < D; d += 16) hwy::Prefetch(row + d);
}

// Panels of rows first … first + count − 1, each panel `height` rows high; zeros beyond column D.
HWY_INLINE void pack_panels(float* out, Rows rows, std::int64_t first, std::int64_t count,
                            std::int64_t height, std::int64_t D) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float* from = rows(first + i);
    for (std::int64_t d = 0; d < D; d += kTileColumns) {
      float* to = out + d * height + i * kTileColumns;
      for_vectors(std::min<std::int64_t>(kTileColumns, D - d),
                  [&](std::int64_t j, auto io) HWY_ATTR { Whole().store(to + j, io.load(from + d + j)); });
    }
  }
}

// out (keys, queries) = rows(first + key) · packed query, for `keys` rounded up to whole tiles.
HWY_INLINE void multiply_keys(float* out, const AttentionWork& work, Rows rows, std::int64_t first,
                              std::int64_t keys, const float* packed, std::int64_t count, std::int64_t D) {
  using Layout = TileLayout<kKeyStride, 1>;
  for (std::int64_t key = 0; key < keys; key += kTileRows) {
    for (std::int64_t r = 0; r < kTileRows; ++r) {
      const float* from = rows(first + std::min(key + r, keys - 1));
      float* to = work.rows + r * kKeyStride;
      for_vectors(D, [&](std::int64_t d, auto io) HWY_ATTR { io.store(to + d, io.load(from + d)); });
    }
    float* at = out + key * kQueries;
    if (count <= lanes()) {
      narrow_tile_product<Layout>(D, work.rows, packed, at, kQueries);
      continue;
    }
    for (std::int64_t panel = 0; panel < query_panels(count); ++panel) {
      tile_product<Layout>(D, work.rows, packed + panel * kTileColumns * D, at + panel * kTileColumns,
                           kQueries, kTileRows, kTileColumns, false);
    }
  }
}

template <int Rows>
HWY_INLINE void multiply_weight_rows(float* sum, const float* weights, const float* panels, std::int64_t keys,
                                     std::int64_t count, std::int64_t D) {
  const std::int64_t width = padded_width(D);
  for (std::int64_t q = 0; q < count; q += Rows) {
    for (std::int64_t d = 0; d < D; d += kTileColumns) {
      tile_product<TileLayout<1, kQueries>, Rows>(keys, weights + q, panels + d * kKeys, sum + q * width + d,
                                                  width, Rows, kTileColumns, true);
    }
  }
}

// sum (count, padded D) += weightsᵀ (keys, kQueries) · panels of keys.
HWY_INLINE void multiply_weights(float* sum, const float* weights, const float* panels, std::int64_t keys,
                                 std::int64_t count, std::int64_t D) {
  constexpr int kRows = HWY_LANES(float) >= 16 ? 8 : 4;  // divides kQueries
  if (count == 1) return multiply_weight_rows<1>(sum, weights, panels, keys, count, D);
  multiply_weight_rows<kRows>(sum, weights, panels, keys, count, D);
}

// The queries at positions [p, p + count) against the block of keys at positions [first, first + keys).
struct Visibility {
  std::int64_t p, count, first, keys, window;
  bool whole() const { return first + keys - 1 <= p && (window == 0 || first > p + count - 1 - window); }
  // Which of the queries from q on see the key: those at or after it, and fewer than `window` after it.
  HWY_INLINE hn::Mask<Floats> mask(std::int64_t key, std::int64_t q) const {
    const Floats d;
    const VecF distance = hn::Iota(d, static_cast<float>(p + q - first - key));
    const auto causal = hn::Ge(distance, hn::Zero(d));
    if (window == 0) return causal;
    return hn::And(causal, hn::Lt(distance, hn::Set(d, static_cast<float>(window))));
  }
};

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
