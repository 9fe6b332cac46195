// Decoding of many tokens against long bf16 caches. Bound by reading the caches once, so one block per
// multiprocessor takes an equal share of all tokens' keys, in tiles of one key/value head, and the copy
// engine keeps tiles on their way through a ring in shared memory. A warp takes a tile whole, on the tensor
// cores. Where a share ends inside a head, the block that ends last joins the pieces, in the order of the
// keys.
#pragma once
#include <algorithm>

#include "braid/backends/cuda/attention/decode_tiles.cuh"
#include "braid/backends/cuda/device/async_copy.cuh"
#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/math.cuh"

namespace braid::cuda::flash {

inline constexpr int kMostStages = 24;
inline constexpr int kManyQueries = 8;  // of a block; else one

// That take tiles: what one makes of a tile is a long chain, so that several have to be at it for a block to
// keep up with the memory. Their sums need room.
template <int kWidth>
constexpr int kWarps = kWidth > 128 ? 3 : 6;
template <int kWidth>
constexpr int kStageBytes = (2 * kBoxBytes) * (kWidth / kBoxWidth);  // keys, then values
template <int kWidth, int kQueries>
constexpr int kJoinBytes = (kQueries * kWidth * 4) * (kWarps<kWidth>);

// Places of the ring in a block of so much shared memory. Each is one warp's: a warp that came to another's
// might be a turn ahead of it.
template <int kWidth, int kQueries>
constexpr int stages_of(int shared_bytes) {
  constexpr int kOther = 4 * 1024;  // alignment, barriers
  const int room = shared_bytes - kOther - kJoinBytes<kWidth, kQueries>;
  return std::min(room / kStageBytes<kWidth>, kMostStages) / kWarps<kWidth> * kWarps<kWidth>;
}

struct StreamArguments {
  bf16* y;
  float *sums, *stats;  // of the pieces of heads: two to a block, kQueries rows each
  std::uint32_t* arrived;
  const bf16* q;
  bf16 *k, *v;                    // the caches
  const bf16 *k_fresh, *v_fresh;  // (N, Hkv, D): not in the caches yet, but put there; null: they are
  std::int32_t query_blocks, stages, boxes;  // boxes: of a tile's keys, as many of its values
  bool ahead;                                // caches and lengths may be read before the kernel's turn
};

struct CacheMaps {
  CUtensorMap k, v;
};

// Places for tiles; those waiting for `full` and `empty` ones meet at a barrier of 8 bytes for each.
struct Ring {
  SharedAddress boxes, full, empty;
};

// A block's tiles, and the head that the first belongs to.
struct Span {
  std::int64_t begin, end;
  Head head;
};

// One head of one token: what its tiles are and which rows its queries have.
struct Work {
  Token token;
  Visible visible;
  std::int32_t kv_head, first, queries;  // query heads within the group
  std::int64_t first_row;

  __device__ __forceinline__ Work(const StreamArguments& a, const Problem& p, const Head& head,
                                  int most_queries)
      : token(token_at(p, head.token)),
        visible(p, token.position),
        kv_head(head.index / a.query_blocks),
        first(head.index % a.query_blocks * most_queries) {
    const std::int32_t group = p.heads / p.kv_heads;
    queries = min(most_queries, group - first);
    first_row = std::int64_t{head.token} * p.heads + kv_head * group + first;
  }
  __device__ __forceinline__ std::int32_t slot(const Head& head, std::int64_t tile) const {
    return visible.slot(static_cast<std::int32_t>(tile - head.first_tile));
  }
};

// Of one thread: fills the ring with the block's tiles. With the hint that they leave the second-level cache
// first the caches come a tenth slower; weights do not.
template <int kWidth, int kQueries>
__device__ __forceinline__ void ask_for_tiles(const StreamArguments& a, const Problem& p,
                                              const CacheMaps& maps, const Order& order, const Ring& ring,
                                              Span span) {
  Turn turn{.parity = 1};  // an empty ring's barriers count as passed
  for (std::int64_t at = span.begin; at < span.end; span.head = order.next(span.head)) {
    const Work work(a, p, span.head, kQueries);
    for (; at < min(span.end, span.head.first_tile + span.head.tiles); ++at) {
      const std::int32_t slot = work.slot(span.head, at);
      const SharedAddress to = ring.boxes + turn.stage * kStageBytes<kWidth>,
                          full = ring.full + turn.stage * 8;
      wait_for_phase(ring.empty + turn.stage * 8, turn.parity);
      arrive_expecting(full, kStageBytes<kWidth>);
      for (int box = 0; box < a.boxes; ++box) {
        const SharedAddress keys = to + box * kBoxBytes, values = keys + kStageBytes<kWidth> / 2;
        copy_box(keys, maps.k, full, box * kBoxWidth, work.kv_head, slot, 0, work.token.segment);
        copy_box(values, maps.v, full, box * kBoxWidth, work.kv_head, slot, 0, work.token.segment);
      }
      turn.next(a.stages);
    }
  }
}

// Of one warp: the token's own key and value, into row `own` of a tile and, by the first of the group's
// blocks, into the caches.
template <int kWidth>
__device__ __forceinline__ void put_own(const StreamArguments& a, const Problem& p, const Head& head,
                                        const Work& work, SharedAddress keys, SharedAddress values, int own,
                                        int lane) {
  const std::int64_t from = (std::int64_t{head.token} * p.kv_heads + work.kv_head) * p.width,
                     row = std::int64_t{work.token.segment} * p.capacity + work.visible.current,
                     to = (row * p.kv_heads + work.kv_head) * p.width;
  for (int i = lane; i < p.width / 8; i += 32) {
    const uint4 k = *reinterpret_cast<const uint4*>(a.k_fresh + from + 8 * i),
                v = *reinterpret_cast<const uint4*>(a.v_fresh + from + 8 * i);
    store_shared(WarpSoftmax<kWidth>::packet_at(keys, own, i), k);
    store_shared(WarpSoftmax<kWidth>::packet_at(values, own, i), v);
    if (work.first == 0) {
      *reinterpret_cast<uint4*>(a.k + to + 8 * i) = k;
      *reinterpret_cast<uint4*>(a.v + to + 8 * i) = v;
    }
  }
  __syncwarp();
}

// Of one warp: takes the tile in a place of the ring, once it is there, and gives the place back.
template <int kWidth>
__device__ __forceinline__ void take_tile(const StreamArguments& a, const Problem& p, const Head& head,
                                          const Work& work, std::int32_t slot, const Ring& ring,
                                          const Turn& turn, WarpSoftmax<kWidth>& softmax, int lane) {
  const SharedAddress keys = ring.boxes + turn.stage * kStageBytes<kWidth>,
                      values = keys + kStageBytes<kWidth> / 2;
  wait_for_phase(ring.full + turn.stage * 8, turn.parity);
  const std::int32_t own = work.visible.current - slot;  // row of the token's own key
  const bool puts = a.k_fresh != nullptr && own >= 0 && own < kTileKeys;
  if (puts) put_own<kWidth>(a, p, head, work, keys, values, own, lane);
  const auto sees = [&](int row) { return work.visible.sees(p, slot + row); };
  const float factor = p.scale * kLog2E;
  if (work.visible.sees_all_from(p, slot)) {
    softmax.template take<false>(keys, values, factor, lane, sees);
  } else {
    softmax.template take<true>(keys, values, factor, lane, sees);
  }
  give_back(ring.empty + turn.stage * 8, lane);
}

// What the warps leave for each other. Weights are relative to 2^top.
template <int kWidth, int kQueries>
struct Meeting {
  float (*sums)[kQueries][kWidth];  // of each warp
  float (*top)[kQueries], (*total)[kQueries];

  __device__ __forceinline__ void leave(const WarpSoftmax<kWidth>& softmax, int warp, int lane) const {
    const int g = lane / 4, t = lane % 4;
    float all = softmax.total;
#pragma unroll
    for (int step = 1; step < 4; step *= 2) all += __shfl_xor_sync(0xffffffffU, all, step);
    if (g >= kQueries) return;
    if (t == 0) {
      top[warp][g] = softmax.base;
      total[warp][g] = all;
    }
#pragma unroll
    for (int i = 0; i < kWidth / 8; ++i) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        sums[warp][g][8 * i + 2 * t + c] = softmax.sums[i][c] + softmax.sums[i][2 + c];
      }
    }
  }
};

// The blocks that share a head, and the rows of scratch that each leaves: a block's second piece is that of a
// head which begins in it.
struct Pieces {
  const Shares& shares;
  std::int64_t first_tile, first_block, last_block;

  __device__ __forceinline__ Pieces(const Shares& all, const Head& head)
      : shares(all),
        first_tile(head.first_tile),
        first_block(all.block_of(first_tile)),
        last_block(all.block_of(first_tile + head.tiles - 1)) {}
  __device__ __forceinline__ bool whole() const { return first_block == last_block; }
  __device__ __forceinline__ std::int64_t row(std::int64_t block, int queries) const {
    return (2 * block + (first_tile >= shares.begin(block) ? 1 : 0)) * queries;
  }
};

// Of all threads that take tiles: the warps' sums become the head's, or a piece of it.
template <int kWidth, int kQueries>
__device__ __forceinline__ void join_warps(const StreamArguments& a, const Problem& p, const Work& work,
                                           const Pieces& pieces, const Meeting<kWidth, kQueries>& meeting) {
  for (int h = 0; h < work.queries; ++h) {
    float top = -INFINITY, total = 0, factors[kWarps<kWidth>];
#pragma unroll
    for (int w = 0; w < kWarps<kWidth>; ++w) top = fmaxf(top, meeting.top[w][h]);
#pragma unroll
    for (int w = 0; w < kWarps<kWidth>; ++w) {
      factors[w] = top == -INFINITY ? 0.0F : fast_exp2(meeting.top[w][h] - top);
      total = fmaf(factors[w], meeting.total[w][h], total);
    }
    const std::int64_t piece = pieces.row(blockIdx.x, kQueries) + h;
    for (int d = static_cast<int>(threadIdx.x); d < p.width; d += 32 * kWarps<kWidth>) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kWarps<kWidth>; ++w) sum = fmaf(factors[w], meeting.sums[w][h][d], sum);
      if (pieces.whole()) {
        a.y[(work.first_row + h) * p.width + d] = from_float<bf16>(sum / total);
      } else {
        __stcg(a.sums + piece * p.width + d, sum);
      }
    }
    if (!pieces.whole() && threadIdx.x == 0) {
      __stcg(a.stats + 2 * piece, top);
      __stcg(a.stats + 2 * piece + 1, total);
    }
  }
}

// The same of all blocks of a head that is in pieces: the one that comes last adds them up.
template <int kWidth, int kQueries>
__device__ __forceinline__ void join_pieces(const StreamArguments& a, const Problem& p, const Work& work,
                                            const Pieces& pieces, std::uint32_t& arrived, bool& is_last) {
  constexpr int kConsumers = 32 * kWarps<kWidth>;
  __threadfence();
  block_barrier<kConsumers>();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(&arrived, 1U) == static_cast<std::uint32_t>(pieces.last_block - pieces.first_block);
    if (is_last) arrived = 0;
  }
  block_barrier<kConsumers>();
  if (!is_last) return;
  __threadfence();
  for (int h = 0; h < work.queries; ++h) {
    const auto stats = [&](std::int64_t b) { return a.stats + 2 * (pieces.row(b, kQueries) + h); };
    float top = -INFINITY, total = 0;
    for (std::int64_t b = pieces.first_block; b <= pieces.last_block; ++b) top = fmaxf(top, __ldcg(stats(b)));
    for (std::int64_t b = pieces.first_block; b <= pieces.last_block; ++b) {
      total = fmaf(fast_exp2(__ldcg(stats(b)) - top), __ldcg(stats(b) + 1), total);
    }
    for (int d = static_cast<int>(threadIdx.x); d < p.width; d += kConsumers) {
      float sum = 0;
      for (std::int64_t b = pieces.first_block; b <= pieces.last_block; ++b) {
        const float part = __ldcg(a.sums + (pieces.row(b, kQueries) + h) * p.width + d);
        sum = fmaf(fast_exp2(__ldcg(stats(b)) - top), part, sum);
      }
      a.y[(work.first_row + h) * p.width + d] = from_float<bf16>(sum / total);
    }
  }
}

template <int kWidth, int kQueries>
__global__ void __launch_bounds__(32 * kWarps<kWidth> + 32, 1)
    stream_kernel(__grid_constant__ const StreamArguments a, __grid_constant__ const Problem p,
                  __grid_constant__ const CacheMaps maps) {
  unsigned char* const memory = dynamic_shared();
  __shared__ float warp_top[kWarps<kWidth>][kQueries], warp_total[kWarps<kWidth>][kQueries];
  __shared__ bool is_last;
  __shared__ std::uint64_t barriers[2 * kMostStages];
  const SharedAddress boxes = (shared_address(memory) + 1023) / 1024 * 1024, full = shared_address(barriers);
  const Ring ring{boxes, full, full + kMostStages * 8};
  // Behind the ring: the warps' sums.
  auto* warp_sums = reinterpret_cast<float(*)[kQueries][kWidth]>(memory + (boxes - shared_address(memory)) +
                                                                 a.stages * kStageBytes<kWidth>);
  const Meeting<kWidth, kQueries> meeting{warp_sums, warp_top, warp_total};
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < a.stages; ++s) {
      init_barrier(ring.full + s * 8, 1);
      init_barrier(ring.empty + s * 8, 1);
    }
    publish_barriers();
  }
  __syncthreads();
  begin_early(a.ahead);

  const Order order{p, p.kv_heads * a.query_blocks};
  const Shares shares{order.count()};
  const std::int64_t begin = shares.begin(blockIdx.x), end = shares.begin(std::int64_t{blockIdx.x} + 1);
  Head head = order.find(begin);
  if (warp == kWarps<kWidth>) {
    if (lane == 0) ask_for_tiles<kWidth, kQueries>(a, p, maps, order, ring, {begin, end, head});
    return;
  }

  if (a.ahead) wait_for_earlier();
  WarpSoftmax<kWidth> softmax;
  std::int32_t taken = 0;  // tiles of this block so far, by all warps
  Turn turn;
  for (std::int64_t at = begin; at < end; head = order.next(head)) {
    const Work work(a, p, head, kQueries);
    softmax.start(a.q + work.first_row * p.width, work.queries, p.width, lane);
    for (; at < min(end, head.first_tile + head.tiles); ++at, ++taken) {
      if (taken % kWarps<kWidth> == warp) {
        take_tile<kWidth>(a, p, head, work, work.slot(head, at), ring, turn, softmax, lane);
      }
      turn.next(a.stages);
    }
    meeting.leave(softmax, warp, lane);
    block_barrier<32 * kWarps<kWidth>>();
    const Pieces pieces(shares, head);
    join_warps<kWidth, kQueries>(a, p, work, pieces, meeting);
    if (!pieces.whole()) {
      std::uint32_t& arrived = a.arrived[std::int64_t{head.token} * order.heads + head.index];
      join_pieces<kWidth, kQueries>(a, p, work, pieces, arrived, is_last);
    }
    block_barrier<32 * kWarps<kWidth>>();  // the sums are read, and may be written again
  }
}

}  // namespace braid::cuda::flash
