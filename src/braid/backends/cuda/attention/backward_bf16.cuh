// Backward of flash attention (Dao et al. 2022) on the tensor cores through mma.sync, without atomics: one
// kernel for dq and dy · y, then one for dk and dv. A block has four warps of 16 rows of its tile; what they
// are multiplied with comes through shared memory, double-buffered by cp.async.
#pragma once
#include "braid/backends/cuda/attention/backward_warp.cuh"

namespace braid::cuda::flash {

// That a multiprocessor has registers for.
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

// One head of a tensor (N, heads, width).
struct OneHead {
  const bf16* all;
  std::int32_t heads, head;
};

// Starts copying positions first to last of a head, as far as they fit; zeros follow.
template <int kWidth>
__device__ __forceinline__ void copy_rows(const HeadRows<kWidth>& to, const OneHead& of, const Problem& p,
                                          const Tile& tile, std::int32_t first, std::int32_t last) {
  copy_tile_async<kBackwardRows, kBackwardThreads>(
      to, of.all + row_of(tile, first, of.heads, of.head) * p.width, std::int64_t{of.heads} * p.width,
      last - first + 1, p.width, static_cast<int>(threadIdx.x));
}

// dq and row_dot of one tile of queries and one head; the tiles of keys, at multiples of their size, ascend.
template <int kWidth>
__global__ void __launch_bounds__(kBackwardThreads, kBackwardBlocks<kWidth>)
    backward_query_kernel(BackwardArguments a, Problem p) {
  const auto head = static_cast<std::int32_t>(blockIdx.x) % p.heads;
  const Tile tile =
      find_tile<kBackwardRows>(p, static_cast<std::int32_t>((gridDim.x - 1 - blockIdx.x) / p.heads));
  if (tile.count <= 0) return;
  const std::int32_t kv_head = head / (p.heads / p.kv_heads), last = tile.last_position();
  const std::int32_t begin = first_visible(p, tile.begin) / kBackwardRows * kBackwardRows;
  const auto copy_queries = [&](int to, const bf16* of) {
    copy_rows(backward_tile<kWidth>(to), {of, p.heads, head}, p, tile, tile.begin, last);
  };
  const auto copy_keys = [&](int to, std::int32_t first) {
    copy_rows(backward_tile<kWidth>(to), {a.k, p.kv_heads, kv_head}, p, tile, first, last);
    copy_rows(backward_tile<kWidth>(to + 1), {a.v, p.kv_heads, kv_head}, p, tile, first, last);
    commit_copies();
  };
  const int lane = static_cast<int>(threadIdx.x) % 32, warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  const auto row_of_lane = [&](int which) { return warp_row + lane / 4 + 8 * which; };
  const auto place = [&](int row) { return row_of(tile, tile.begin + row, p.heads, head); };

  copy_queries(2, a.q);
  copy_queries(3, a.dy);
  copy_queries(4, a.y);
  copy_keys(0, begin);
  OwnQueries<kWidth> own;
  own.first = tile.begin + warp_row;
  own.last = min(own.first + 15, last);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = row_of_lane(half);
    if (r < tile.count) own.offsets[half] = -kLog2E * a.log_sum_exp[place(r)];
  }
  wait_for_copies<0>();
  __syncthreads();
  own.q.load(backward_tile<kWidth>(2), warp_row, lane);
  own.dy.load(backward_tile<kWidth>(3), warp_row, lane);
  make_row_dots(own.row_dots, own.dy, backward_tile<kWidth>(4), warp_row, lane);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = row_of_lane(half);
    if (r < tile.count && lane % 4 == 0) a.row_dot[place(r)] = own.row_dots[half];
  }
  __syncthreads();  // the queries' memory takes the second keys

  int at = 0;
  for (std::int32_t first = begin; first <= last; first += kBackwardRows, at ^= 2) {
    if (first + kBackwardRows <= last) copy_keys(at ^ 2, first + kBackwardRows);
    own.add_tile(p, backward_tile<kWidth>(at), backward_tile<kWidth>(at + 1), first, lane);
    wait_for_copies<0>();
    __syncthreads();
  }
  store_rows<kWidth>(own.dq, p.scale, p.width, lane, [&](int r) {
    return warp_row + r < tile.count ? a.dq + place(warp_row + r) * p.width : nullptr;
  });
}

// What passes by a tile of keys: the query heads of its group one after another, of each the tiles of queries
// from the keys' own on, ascending.
struct PassingQueries {
  std::int32_t begin, last, head, first;  // positions

  __device__ __forceinline__ void next() {
    first += kBackwardRows;
    if (first > last) first = begin, ++head;
  }
};

// dk and dv of one tile of keys and one of their heads.
template <int kWidth>
__global__ void __launch_bounds__(kBackwardThreads, kBackwardBlocks<kWidth>)
    backward_key_kernel(BackwardArguments a, Problem p) {
  const auto kv_head = static_cast<std::int32_t>(blockIdx.x) % p.kv_heads;
  const Tile tile = find_tile<kBackwardRows>(p, static_cast<std::int32_t>(blockIdx.x / p.kv_heads));
  if (tile.count <= 0) return;
  const auto last_seeing = [&](std::int32_t key) {
    return static_cast<std::int32_t>(
        min(std::int64_t{tile.segment_length} - 1, std::int64_t{key} + p.window - 1));
  };
  const std::int32_t group = p.heads / p.kv_heads, last = last_seeing(tile.last_position());
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp_row = thread / 32 * 16;
  const auto copy_keys = [&](int to, const bf16* of) {
    copy_rows(backward_tile<kWidth>(to), {of, p.kv_heads, kv_head}, p, tile, tile.begin,
              tile.last_position());
  };
  const auto copy_queries = [&](int to, const PassingQueries& at) {
    copy_rows(backward_tile<kWidth>(to), {a.q, p.heads, at.head}, p, tile, at.first, last);
    copy_rows(backward_tile<kWidth>(to + 1), {a.dy, p.heads, at.head}, p, tile, at.first, last);
    commit_copies();
  };
  // Beside each pair of tiles what the softmax left: first all offsets, then all row_dots, a thread each.
  const auto statistics = [&](int to) {
    return reinterpret_cast<float*>(dynamic_shared() + 4 * kBackwardTileBytes<kWidth>) + to * kBackwardRows;
  };
  const auto statistic = [&](const PassingQueries& at) {
    const std::int32_t position = at.first + thread % kBackwardRows;
    if (position > last) return thread < kBackwardRows ? -INFINITY : 0.0F;  // weights of 0
    const std::int64_t row = row_of(tile, position, p.heads, at.head);
    return thread < kBackwardRows ? -kLog2E * a.log_sum_exp[row] : a.row_dot[row];
  };

  PassingQueries now{tile.begin, last, kv_head * group, tile.begin};
  copy_keys(2, a.k);
  copy_keys(3, a.v);
  copy_queries(0, now);
  statistics(0)[thread] = statistic(now);
  wait_for_copies<0>();
  __syncthreads();
  OwnKeys<kWidth> own;
  own.first = tile.begin + warp_row;
  own.last_query = warp_row < tile.count ? min(last_seeing(own.first + 15), last) : -1;
  own.k.load(backward_tile<kWidth>(2), warp_row, lane);
  own.v.load(backward_tile<kWidth>(3), warp_row, lane);
  __syncthreads();  // the keys' memory takes the second queries

  int at = 0;
  for (std::int32_t left = group * ((last - tile.begin) / kBackwardRows + 1); left > 0; --left, at ^= 2) {
    PassingQueries next = now;
    next.next();
    float next_statistic = 0;
    if (left > 1) {
      copy_queries(at ^ 2, next);
      next_statistic = statistic(next);
    }
    own.add_tile(p, backward_tile<kWidth>(at), backward_tile<kWidth>(at + 1),
                 {statistics(at), statistics(at + 1)}, now.first, lane);
    statistics(at ^ 2)[thread] = next_statistic;
    wait_for_copies<0>();
    __syncthreads();
    now = next;
  }
  const auto row_at = [&](bf16* of) {
    return [&, of](int r) {
      const bool exists = warp_row + r < tile.count;
      return exists ? of + row_of(tile, own.first + r, p.kv_heads, kv_head) * p.width : nullptr;
    };
  };
  store_rows<kWidth>(own.dk, p.scale, p.width, lane, row_at(a.dk));
  store_rows<kWidth>(own.dv, 1.0F, p.width, lane, row_at(a.dv));
}

}  // namespace braid::cuda::flash
