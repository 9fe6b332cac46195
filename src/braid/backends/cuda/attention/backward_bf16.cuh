// Backward of flash attention (Dao et al. 2022) on the tensor cores through mma.sync, without atomics: one
// kernel for dq and dy · y, then one for dk and dv. A block has four warps of 16 rows of its tile; what they
// are multiplied with comes through shared memory, double-buffered by cp.async.
#pragma once
#include "braid/backends/cuda/attention/products_bf16.cuh"
#include "braid/backends/cuda/attention/tiles.cuh"
#include "braid/backends/cuda/device/approximate.cuh"

namespace braid::cuda::flash {

inline constexpr int kBackwardRows = 64, kBackwardThreads = 128;

// Columns of scores that a warp has in registers at once, and the blocks that a multiprocessor has registers
// for.
template <int kWidth>
constexpr int kQueryColumns = kWidth == 64 ? 32 : 16;
inline constexpr int kKeyColumns = 16;
template <int kWidth>
constexpr int kBackwardBlocks = kWidth == 64 ? 3 : 2;

template <int kWidth>
constexpr int kBackwardTileBytes = kBackwardRows* HeadRows<kWidth>::kRowBytes;
// Two pairs of tiles and one more: y, or two pairs of statistics.
template <int kWidth>
constexpr std::size_t kQueryShared = 5 * kBackwardTileBytes<kWidth>;
template <int kWidth>
constexpr std::size_t kKeyShared = 4 * kBackwardTileBytes<kWidth> + 4 * kBackwardRows * sizeof(float);

// As flash::backward's; the first kernel writes row_dot, the second reads it.
struct BackwardArguments {
  bf16 *dq, *dk, *dv;
  float* row_dot;
  const bf16 *q, *k, *v, *y, *dy;
  const float* log_sum_exp;
};

inline BackwardArguments backward_arguments(const ops::AttentionGradients& grads, ConstTensor dy,
                                            const ops::AttentionInputs& in, const ops::AttentionOutputs& out,
                                            Tensor row_dot) {
  return {.dq = pointer<bf16>(grads.q),
          .dk = pointer<bf16>(grads.k),
          .dv = pointer<bf16>(grads.v),
          .row_dot = pointer<float>(row_dot),
          .q = pointer<bf16>(in.q),
          .k = pointer<bf16>(in.k),
          .v = pointer<bf16>(in.v),
          .y = pointer<bf16>(out.y),
          .dy = pointer<bf16>(dy),
          .log_sum_exp = pointer<float>(out.log_sum_exp)};
}

template <int kWidth>
__device__ __forceinline__ HeadRows<kWidth> backward_tile(int i) {
  return {shared_address(dynamic_shared()) + static_cast<SharedAddress>(i * kBackwardTileBytes<kWidth>)};
}

// Where the rows of one head begin in (N, `heads`, width), counted from a segment's first token.
__device__ __forceinline__ std::int64_t row_of(const Tile& tile, std::int32_t position, std::int32_t heads,
                                               std::int32_t head) {
  return (std::int64_t{tile.segment_begin} + position) * heads + head;
}

// Starts copying positions first to last of one head, as far as they fit; zeros follow. A thread's packets
// lie whole periods of the permutation apart.
template <int kWidth>
__device__ __forceinline__ void copy_rows(const HeadRows<kWidth>& to, const bf16* all, const Problem& p,
                                          const Tile& tile, std::int32_t first, std::int32_t last,
                                          std::int32_t heads, std::int32_t head) {
  constexpr int kPackets = HeadRows<kWidth>::kPackets, kRowsAtOnce = kBackwardThreads / kPackets;
  static_assert(kRowsAtOnce % 8 == 0);
  const int row = static_cast<int>(threadIdx.x) / kPackets, packet = static_cast<int>(threadIdx.x) % kPackets;
  const int rows = 8 * packet < p.width ? last - first + 1 - row : 0;
  const bf16* from = all + row_of(tile, first + row, heads, head) * p.width + 8 * packet;
  const std::int64_t step = std::int64_t{kRowsAtOnce} * heads * p.width;
  SharedAddress place = to.at(row, packet);
#pragma unroll
  for (int i = 0; i < kBackwardRows; i += kRowsAtOnce) {
    copy_async(place, i < rows ? from : all, i < rows);
    from += step;
    place += kRowsAtOnce * HeadRows<kWidth>::kRowBytes;
  }
}

// Columns of a warp's scores, in pieces of kColumns, that lie at `first` and on in a tile and reach into
// lowest ... last.
template <int kColumns>
struct Pieces {
  int begin, end;
  __device__ Pieces(std::int32_t first, std::int32_t lowest, std::int32_t last) {
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

// dq and row_dot of one tile of queries and one head; the tiles of keys, at multiples of their size, ascend.
template <int kWidth>
__global__ void __launch_bounds__(kBackwardThreads, kBackwardBlocks<kWidth>)
    backward_query_kernel(BackwardArguments a, Problem p) {
  constexpr int kColumns = kQueryColumns<kWidth>;
  const auto head = static_cast<std::int32_t>(blockIdx.x) % p.heads;
  const Tile tile =
      find_tile<kBackwardRows>(p, static_cast<std::int32_t>((gridDim.x - 1 - blockIdx.x) / p.heads));
  if (tile.count <= 0) return;
  const std::int32_t kv_head = head / (p.heads / p.kv_heads), last = tile.last_position();
  const std::int32_t begin = first_visible(p, tile.begin) / kBackwardRows * kBackwardRows;
  const auto copy_queries = [&](int to, const bf16* of) {
    copy_rows(backward_tile<kWidth>(to), of, p, tile, tile.begin, last, p.heads, head);
  };
  const auto copy_keys = [&](int to, std::int32_t first) {
    copy_rows(backward_tile<kWidth>(to), a.k, p, tile, first, last, p.kv_heads, kv_head);
    copy_rows(backward_tile<kWidth>(to + 1), a.v, p, tile, first, last, p.kv_heads, kv_head);
    commit_copies();
  };
  const int lane = static_cast<int>(threadIdx.x) % 32, warp_row = static_cast<int>(threadIdx.x) / 32 * 16;

  copy_queries(2, a.q);
  copy_queries(3, a.dy);
  copy_queries(4, a.y);
  copy_keys(0, begin);
  float offsets[2] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = warp_row + lane / 4 + 8 * half;
    if (r < tile.count) offsets[half] = -kLog2E * a.log_sum_exp[row_of(tile, tile.begin + r, p.heads, head)];
  }
  wait_for_copies<0>();
  __syncthreads();
  LeftRows<kWidth> q, dy;
  q.load(backward_tile<kWidth>(2), warp_row, lane);
  dy.load(backward_tile<kWidth>(3), warp_row, lane);
  float row_dots[2];
  make_row_dots(row_dots, dy, backward_tile<kWidth>(4), warp_row, lane);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = warp_row + lane / 4 + 8 * half;
    if (r < tile.count && lane % 4 == 0)
      a.row_dot[row_of(tile, tile.begin + r, p.heads, head)] = row_dots[half];
  }
  __syncthreads();  // the queries' memory takes the second keys

  const std::int32_t first_query = tile.begin + warp_row, last_query = min(first_query + 15, last);
  const std::int32_t lowest = first_visible(p, first_query);
  const float scale = p.scale * kLog2E;
  float dq[kWidth / 8][4] = {};
  int at = 0;
  for (std::int32_t first = begin; first <= last; first += kBackwardRows, at ^= 2) {
    if (first + kBackwardRows <= last) copy_keys(at ^ 2, first + kBackwardRows);
    const HeadRows<kWidth> keys = backward_tile<kWidth>(at), values = backward_tile<kWidth>(at + 1);
    Pieces<kColumns> pieces(first, lowest, last_query);
    if (first_query > last) pieces.end = 0;
    for (int piece = pieces.begin; piece < pieces.end; ++piece) {
      const int row = piece * kColumns;
      const std::int32_t key = first + row;
      float dots[kColumns / 8][4], slopes[kColumns / 8][4];  // [query][key]
      dot_rows<kColumns>(dots, q, keys, row, lane);
      dot_rows<kColumns>(slopes, dy, values, row, lane);
      const bool everything = key + kColumns - 1 <= first_query && key > first_query + 15 - p.window;
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const bool seen = either(
              everything, visible(p, first_query + lane / 4 + i / 2 * 8, key + 8 * n + lane % 4 * 2 + i % 2));
          to_weight_and_slope(dots[n][i], slopes[n][i], seen, scale, offsets[i / 2], row_dots[i / 2]);
        }
      }
      add_rows<kColumns>(dq, slopes, keys, row, lane);
    }
    wait_for_copies<0>();
    __syncthreads();
  }
  store_rows<kWidth>(dq, p.scale, p.width, lane, [&](int r) {
    const bool exists = warp_row + r < tile.count;
    return exists ? a.dq + row_of(tile, first_query + r, p.heads, head) * p.width : nullptr;
  });
}

// dk and dv of one tile of keys and one of their heads: the query heads of its group one after another, the
// tiles of queries in ascending order.
template <int kWidth>
__global__ void __launch_bounds__(kBackwardThreads, kBackwardBlocks<kWidth>)
    backward_key_kernel(BackwardArguments a, Problem p) {
  constexpr int kColumns = kKeyColumns;
  const auto kv_head = static_cast<std::int32_t>(blockIdx.x) % p.kv_heads;
  const Tile tile = find_tile<kBackwardRows>(p, static_cast<std::int32_t>(blockIdx.x / p.kv_heads));
  if (tile.count <= 0) return;
  const auto last_seeing = [&](std::int32_t key) {
    return static_cast<std::int32_t>(
        min(std::int64_t{tile.segment_length} - 1, std::int64_t{key} + p.window - 1));
  };
  const std::int32_t group = p.heads / p.kv_heads, last = last_seeing(tile.last_position());
  const std::int32_t tiles = (last - tile.begin) / kBackwardRows + 1;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp_row = thread / 32 * 16;

  const auto copy_keys = [&](int to, const bf16* of) {
    copy_rows(backward_tile<kWidth>(to), of, p, tile, tile.begin, tile.last_position(), p.kv_heads, kv_head);
  };
  const auto copy_queries = [&](int to, std::int32_t head, std::int32_t first) {
    copy_rows(backward_tile<kWidth>(to), a.q, p, tile, first, last, p.heads, head);
    copy_rows(backward_tile<kWidth>(to + 1), a.dy, p, tile, first, last, p.heads, head);
    commit_copies();
  };
  // Beside each pair of tiles what the softmax left: first all offsets, then all row_dots, a thread each.
  const auto statistics = [&](int to) {
    return reinterpret_cast<float*>(dynamic_shared() + 4 * kBackwardTileBytes<kWidth>) + to * kBackwardRows;
  };
  const auto statistic = [&](std::int32_t head, std::int32_t first) {
    const std::int32_t position = first + thread % kBackwardRows;
    if (position > last) return thread < kBackwardRows ? -INFINITY : 0.0F;  // weights of 0
    const std::int64_t row = row_of(tile, position, p.heads, head);
    return thread < kBackwardRows ? -kLog2E * a.log_sum_exp[row] : a.row_dot[row];
  };

  std::int32_t head = kv_head * group, first = tile.begin;
  copy_keys(2, a.k);
  copy_keys(3, a.v);
  copy_queries(0, head, first);
  statistics(0)[thread] = statistic(head, first);
  wait_for_copies<0>();
  __syncthreads();
  LeftRows<kWidth> k, v;
  k.load(backward_tile<kWidth>(2), warp_row, lane);
  v.load(backward_tile<kWidth>(3), warp_row, lane);
  __syncthreads();  // the keys' memory takes the second queries

  const std::int32_t first_key = tile.begin + warp_row;
  const std::int32_t last_query = warp_row < tile.count ? min(last_seeing(first_key + 15), last) : -1;
  const float scale = p.scale * kLog2E;
  float dk[kWidth / 8][4] = {}, dv[kWidth / 8][4] = {};
  int at = 0;
  for (std::int32_t left = group * tiles; left > 0; --left, at ^= 2) {
    const bool wraps = first + kBackwardRows > last;
    const std::int32_t next = wraps ? tile.begin : first + kBackwardRows, next_head = head + (wraps ? 1 : 0);
    float next_statistic = 0;
    if (left > 1) {
      copy_queries(at ^ 2, next_head, next);
      next_statistic = statistic(next_head, next);
    }
    const HeadRows<kWidth> queries = backward_tile<kWidth>(at), gradients = backward_tile<kWidth>(at + 1);
    const Pieces<kColumns> pieces(first, first_key, last_query);
    for (int piece = pieces.begin; piece < pieces.end; ++piece) {
      const int row = piece * kColumns;
      const std::int32_t query = first + row;
      float dots[kColumns / 8][4], slopes[kColumns / 8][4];  // [key][query]
      dot_rows<kColumns>(dots, k, queries, row, lane);
      dot_rows<kColumns>(slopes, v, gradients, row, lane);
      const bool everything = query >= first_key + 15 && first_key > query + kColumns - 1 - p.window;
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
        const int column = row + 8 * n + lane % 4 * 2;
        const auto offsets = *reinterpret_cast<const float2*>(statistics(at) + column);
        const auto row_dots = *reinterpret_cast<const float2*>(statistics(at + 1) + column);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const bool seen =
              either(everything, visible(p, first + column + i % 2, first_key + lane / 4 + i / 2 * 8));
          to_weight_and_slope(dots[n][i], slopes[n][i], seen, scale, i % 2 == 0 ? offsets.x : offsets.y,
                              i % 2 == 0 ? row_dots.x : row_dots.y);
        }
      }
      add_rows<kColumns>(dv, dots, gradients, row, lane);
      add_rows<kColumns>(dk, slopes, queries, row, lane);
    }
    statistics(at ^ 2)[thread] = next_statistic;
    wait_for_copies<0>();
    __syncthreads();
    first = next;
    head = next_head;
  }
  const auto row_at = [&](bf16* of) {
    return [&, of](int r) {
      const bool exists = warp_row + r < tile.count;
      return exists ? of + row_of(tile, first_key + r, p.kv_heads, kv_head) * p.width : nullptr;
    };
  };
  store_rows<kWidth>(dk, p.scale, p.width, lane, row_at(a.dk));
  store_rows<kWidth>(dv, 1.0F, p.width, lane, row_at(a.dv));
}

}  // namespace braid::cuda::flash
