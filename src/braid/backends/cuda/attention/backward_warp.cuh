// What a warp does in attention's backward pass on the tensor cores: 16 queries or 16 keys are its own, and
// tiles of the other kind pass by in shared memory.
#pragma once
#include "braid/backends/cuda/attention/products_bf16.cuh"
#include "braid/backends/cuda/attention/tiles.cuh"
#include "braid/backends/cuda/device/approximate.cuh"

namespace braid::cuda::flash {

inline constexpr int kBackwardRows = 64, kBackwardThreads = 128;

// Columns of a warp's scores, in pieces of kColumns, that lie at `first` and on in a tile and reach into
// lowest ... last.
template <int kColumns>
struct ScoreColumns {
  int begin, end;
  __device__ ScoreColumns(std::int32_t first, std::int32_t lowest, std::int32_t last) {
    constexpr int kShift = kColumns == 32 ? 5 : 4;
    static_assert(1 << kShift == kColumns);
    begin = max((lowest - first) >> kShift, 0);
    end = min(((last - first) >> kShift) + 1, kBackwardRows / kColumns);
  }
};

// A dot product of query and key becomes a softmax weight, and that weight's gradient the dot product's, but
// for the scale; both 0 where the query does not see the key. scale and offset (the negative log_sum_exp) are
// to base 2.
__device__ __forceinline__ void to_weight_and_slope(float& dot, float& d_weight, bool seen, float scale,
                                                    float offset, float row_dot) {
  const float weight = fast_exp2(fmaf(dot, scale, offset));
  dot = seen ? weight : 0.0F;
  d_weight = seen ? weight * (d_weight - row_dot) : 0.0F;
}

// Rows g and g + 8 of a warp's sums, where `row_at` has a place for them.
template <int kWidth, class F>
__device__ __forceinline__ void store_rows(const float (&sums)[kWidth / 8][4], float factor,
                                           std::int32_t width, int lane, F&& row_at) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    bf16* const to = row_at(lane / 4 + 8 * half);
    if (to == nullptr) continue;
#pragma unroll
    for (int d = 0; d < kWidth / 8; ++d) {
      if (8 * d >= width) break;
      *reinterpret_cast<std::uint32_t*>(to + 8 * d + lane % 4 * 2) =
          PackedBf16::pack(sums[d][2 * half] * factor, sums[d][2 * half + 1] * factor);
    }
  }
}

// dy · y of rows g and g + 8, on the diagonal of their products and summed in the order of dy · v: the score
// of a row that sees only itself, whose y is its v, then has a gradient of exactly 0.
template <int kWidth>
__device__ __forceinline__ void make_row_dots(float (&row_dots)[2], const LeftRows<kWidth>& dy,
                                              const HeadRows<kWidth>& y, int row, int lane) {
  float dots[2][4];
  dot_rows<16>(dots, dy, y, row, lane);
  const int g = lane / 4, owner = 4 * g + g / 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float mine = g % 2 == 0 ? dots[half][2 * half] : dots[half][2 * half + 1];
    row_dots[half] = __shfl_sync(0xffffffffU, mine, owner);
  }
}

// A warp's queries. Lane l works on rows l / 4 and l / 4 + 8.
template <int kWidth>
struct OwnQueries {
  static constexpr int kColumns = kWidth == 64 ? 32 : 16;  // of scores that fit into registers at once
  LeftRows<kWidth> q, dy;
  float offsets[2] = {}, row_dots[2];
  float dq[kWidth / 8][4] = {};
  std::int32_t first, last;  // positions

  // Adds what `keys` and `values` from position `key` on give to dq.
  __device__ __forceinline__ void add_tile(const Problem& p, const HeadRows<kWidth>& keys,
                                           const HeadRows<kWidth>& values, std::int32_t key, int lane) {
    if (first > last) return;
    const ScoreColumns<kColumns> pieces(key, first_visible(p, first), last);
    for (int piece = pieces.begin; piece < pieces.end; ++piece) {
      add_columns(p, keys, values, key, piece * kColumns, lane);
    }
  }

 private:
  __device__ __forceinline__ void add_columns(const Problem& p, const HeadRows<kWidth>& keys,
                                              const HeadRows<kWidth>& values, std::int32_t tile_key, int row,
                                              int lane) {
    const std::int32_t key = tile_key + row;
    float dots[kColumns / 8][4], slopes[kColumns / 8][4];  // [query][key]
    dot_rows<kColumns>(dots, q, keys, row, lane);
    dot_rows<kColumns>(slopes, dy, values, row, lane);
    const bool everything = key + kColumns - 1 <= first && key > first + 15 - p.window;
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool seen =
            either(everything, visible(p, first + lane / 4 + i / 2 * 8, key + 8 * n + lane % 4 * 2 + i % 2));
        to_weight_and_slope(dots[n][i], slopes[n][i], seen, p.scale * kLog2E, offsets[i / 2],
                            row_dots[i / 2]);
      }
    }
    add_rows<kColumns>(dq, slopes, keys, row, lane);
  }
};

// What the softmax left of a tile's queries, a number each, in shared memory.
struct QueryStatistics {
  const float *offsets, *row_dots;
};

// A warp's keys.
template <int kWidth>
struct OwnKeys {
  static constexpr int kColumns = 16;
  LeftRows<kWidth> k, v;
  float dk[kWidth / 8][4] = {}, dv[kWidth / 8][4] = {};
  std::int32_t first, last_query;  // position of its first key, and the last that sees any

  // Adds what queries and gradients from position `query` on give to dk and dv.
  __device__ __forceinline__ void add_tile(const Problem& p, const HeadRows<kWidth>& queries,
                                           const HeadRows<kWidth>& gradients,
                                           const QueryStatistics& statistics, std::int32_t query, int lane) {
    const ScoreColumns<kColumns> pieces(query, first, last_query);
    for (int piece = pieces.begin; piece < pieces.end; ++piece) {
      const int row = piece * kColumns;
      float dots[kColumns / 8][4], slopes[kColumns / 8][4];  // [key][query]
      dot_rows<kColumns>(dots, k, queries, row, lane);
      dot_rows<kColumns>(slopes, v, gradients, row, lane);
      to_weights_and_slopes(p, dots, slopes, statistics, query, row, lane);
      add_rows<kColumns>(dv, dots, gradients, row, lane);
      add_rows<kColumns>(dk, slopes, queries, row, lane);
    }
  }

 private:
  using Scores = float[kColumns / 8][4];
  __device__ __forceinline__ void to_weights_and_slopes(const Problem& p, Scores& dots, Scores& slopes,
                                                        const QueryStatistics& statistics,
                                                        std::int32_t tile_query, int row, int lane) const {
    const std::int32_t query = tile_query + row;
    const bool everything = query >= first + 15 && first > query + kColumns - 1 - p.window;
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
      const int column = row + 8 * n + lane % 4 * 2;
      const auto offsets = *reinterpret_cast<const float2*>(statistics.offsets + column);
      const auto row_dots = *reinterpret_cast<const float2*>(statistics.row_dots + column);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool seen =
            either(everything, visible(p, tile_query + column + i % 2, first + lane / 4 + i / 2 * 8));
        to_weight_and_slope(dots[n][i], slopes[n][i], seen, p.scale * kLog2E,
                            i % 2 == 0 ? offsets.x : offsets.y, i % 2 == 0 ? row_dots.x : row_dots.y);
      }
    }
  }
};

}  // namespace braid::cuda::flash
