// Decoding of many tokens against long bf16 caches. Bound by reading the caches once, so one block per
// multiprocessor takes an equal share of all tokens' keys, in tiles of one key/value head, and the copy
// engine keeps tiles on their way through a ring in shared memory. A warp takes a tile whole, on the tensor
// cores: rows 0 to 7 of its products are the query heads that share the key/value head, rows 8 to 15 what
// rounding to bf16 takes from the first rows' softmax weights. Where a share ends inside a head, the block
// that ends last joins the pieces, in the order of the keys.
#include "braid/backends/cuda/attention/decode.cuh"
#include "braid/backends/cuda/device/approximate.cuh"
#include "braid/backends/cuda/device/async_copy.cuh"
#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/tensor_map.h"

namespace braid::cuda::flash {
namespace {

constexpr int kTileKeys = 32, kBoxWidth = 64, kBoxBytes = kTileKeys * kBoxWidth * 2;
constexpr int kMostStages = 24;
constexpr int kManyQueries = 8;  // of a block; else one
constexpr float kLog2E = 1.4426950408889634F;

// That take tiles: what one makes of a tile is a long chain, so that several have to be at it for a block to
// keep up with the memory. Their sums need room.
template <int kWidth>
constexpr int kWarps = kWidth > 128 ? 3 : 6;
template <int kWidth>
constexpr int kStageBytes = (2 * kBoxBytes) * (kWidth / kBoxWidth);  // keys, then values
template <int kWidth, int kQueries>
constexpr int kJoinBytes = (kQueries * kWidth * 4) * (kWarps<kWidth>);

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

// The tiles of the slots in which a token sees keys.
struct Visible {
  std::int32_t position, current, first_tile, tiles;  // current: the token's own slot
  bool wrapped;

  __device__ __forceinline__ Visible(const Problem& p, std::int32_t token_position)
      : position(token_position) {
    const auto capacity = static_cast<std::int32_t>(p.capacity);
    wrapped = position >= capacity;
    current = position % capacity;
    first_tile = wrapped ? 0 : first_visible(p, position) / kTileKeys;
    tiles = (wrapped ? (capacity - 1) / kTileKeys : current / kTileKeys) - first_tile + 1;
  }
  __device__ __forceinline__ bool sees(const Problem& p, std::int32_t slot) const {
    const auto capacity = static_cast<std::int32_t>(p.capacity);
    const std::int32_t back = current - slot + (slot > current ? capacity : 0);
    return slot < capacity && back <= position && back < p.window;
  }
  __device__ __forceinline__ bool sees_all_from(const Problem& p, std::int32_t slot) const {
    return !wrapped && slot >= first_visible(p, position) && slot + kTileKeys - 1 <= position;
  }
};

// Query heads that share a key/value head, as many as a block takes at once.
struct Head {
  std::int32_t token, index;  // the latter among the token's
  std::int64_t first_tile;    // among all tiles
  std::int32_t tiles;
};

// The order of all tiles: by token, head, slot.
struct Order {
  const Problem& p;
  std::int32_t heads;  // of a token

  __device__ __forceinline__ std::int32_t tiles_of(std::int64_t n) const {
    return n < p.tokens ? Visible(p, token_at(p, n).position).tiles : 0;
  }
  // The warp's tokens from `base` on: the sum of their tiles up to each lane's.
  __device__ __forceinline__ std::int64_t running_sum(std::int32_t tiles) const {
    std::int64_t sum = std::int64_t{tiles} * heads;
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const std::int64_t before = __shfl_up_sync(0xffffffffU, sum, step);
      if (lane >= step) sum += before;
    }
    return sum;
  }
  // All tiles; whole warps call.
  __device__ __forceinline__ std::int64_t count() const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    std::int64_t all = 0;
    for (std::int64_t base = 0; base < p.tokens; base += 32) {
      all += __shfl_sync(0xffffffffU, running_sum(tiles_of(base + lane)), 31);
    }
    return all;
  }
  // The head that tile `at` belongs to; whole warps call.
  __device__ __forceinline__ Head find(std::int64_t at) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    std::int64_t before = 0;
    for (std::int64_t base = 0;; base += 32) {
      const std::int32_t tiles = tiles_of(base + lane);
      const std::int64_t sum = before + running_sum(tiles), last = __shfl_sync(0xffffffffU, sum, 31);
      if (at < last || base + 32 >= p.tokens) {
        const int which = __ffs(static_cast<int>(__ballot_sync(0xffffffffU, at < sum))) - 1;
        const std::int64_t begin = __shfl_sync(0xffffffffU, sum - std::int64_t{tiles} * heads, which);
        const std::int32_t each = __shfl_sync(0xffffffffU, tiles, which);
        const auto index = static_cast<std::int32_t>((at - begin) / each);
        return {static_cast<std::int32_t>(base) + which, index, begin + std::int64_t{index} * each, each};
      }
      before = last;
    }
  }
  __device__ __forceinline__ Head next(const Head& head) const {
    const std::int64_t first = head.first_tile + head.tiles;
    if (head.index + 1 < heads) return {head.token, head.index + 1, first, head.tiles};
    return {head.token + 1, 0, first, tiles_of(head.token + 1)};
  }
};

// What each block has of all tiles.
struct Shares {
  std::int64_t all;
  __device__ __forceinline__ std::int64_t begin(std::int64_t block) const { return all * block / gridDim.x; }
  __device__ __forceinline__ std::int64_t block_of(std::int64_t tile) const {
    return ((tile + 1) * gridDim.x - 1) / all;
  }
};

// One warp's softmax over the tiles it took.
template <int kWidth>
struct WarpSoftmax {
  static constexpr int kSteps = kWidth / 16, kGroups = kWidth / 8, kKeyGroups = kTileKeys / 8;
  static constexpr int kRowBytes = kBoxWidth * 2;
  std::uint32_t q[kSteps][2];          // rows g, columns 2t and 2t + 8 of each step
  float sums[kGroups][4], top, total;  // top: of the scores before they are scaled

  __device__ __forceinline__ void start(const bf16* rows, std::int32_t queries, std::int32_t width,
                                        int lane) {
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int d = 16 * i + 8 * half + 2 * t;
        q[i][half] = g < queries && d < width
                         ? *reinterpret_cast<const std::uint32_t*>(rows + std::int64_t{g} * width + d)
                         : 0;
      }
    }
#pragma unroll
    for (auto& group : sums) {
#pragma unroll
      for (float& x : group) x = 0;
    }
    top = -INFINITY;
    total = 0;
  }

  // Where 16 bytes of a row lie in a tile of boxes, packets permuted by the row.
  static __device__ __forceinline__ SharedAddress packet_at(SharedAddress tile, int row, int packet) {
    return tile + packet / 8 * kBoxBytes + row * kRowBytes + ((packet % 8 ^ (row & 7)) << 4);
  }

  // kMasked: keys that `sees` denies are left out, whatever their slots hold. factor: of a score, in base 2.
  template <bool kMasked, class Sees>
  __device__ __forceinline__ void take(SharedAddress keys, SharedAddress values, float factor, int lane,
                                       Sees&& sees) {
    const int matrix = lane / 8, within = lane % 8, t = lane % 4;
    float scores[kKeyGroups][4];
    // As packet_at, of 8 rows and packets 2i + matrix: all that depends on the lane.
    const SharedAddress key_packet = keys + within * kRowBytes + ((matrix ^ within) << 4);
#pragma unroll
    for (auto& group : scores) {
#pragma unroll
      for (float& x : group) x = 0;
    }
#pragma unroll
    for (int i = 0; i < kSteps; i += 2) {
      const SharedAddress from = (key_packet ^ (2 * i % 8) << 4) + 2 * i / 8 * kBoxBytes;
#pragma unroll
      for (int j = 0; j < kKeyGroups; ++j) {
        std::uint32_t w[4];
        load_matrices(w, from + j * 8 * kRowBytes);
#pragma unroll
        for (int s = 0; s < 2; ++s) {
          const std::uint32_t a[4] = {q[i + s][0], 0, q[i + s][1], 0};
          multiply(PackedBf16{}, scores[j], a, w[2 * s], w[2 * s + 1]);
        }
      }
    }
    float most = top;
    std::uint32_t mask[kKeyGroups] = {};
#pragma unroll
    for (int j = 0; j < kKeyGroups; ++j) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        if constexpr (kMasked) {
          const bool seen = sees(8 * j + 2 * t + c);
          if (!seen) scores[j][c] = -INFINITY;
          mask[j] |= seen ? 0xffffU << (16 * c) : 0;
        }
        most = fmaxf(most, scores[j][c]);
      }
    }
#pragma unroll
    for (int step = 1; step < 4; step *= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, step));
    const float base = most == -INFINITY ? 0.0F : most * factor;
    const float rescale = fast_exp2(fmaf(top, factor, -base));
    top = most;
    if (__any_sync(0xffffffffU, rescale != 1.0F)) {
      total *= rescale;
#pragma unroll
      for (auto& group : sums) {
#pragma unroll
        for (float& x : group) x *= rescale;
      }
    }
    // Of 16 rows and packets i + matrix / 2.
    const SharedAddress value_packet =
        values + (8 * (matrix % 2) + within) * kRowBytes + ((matrix / 2 ^ within) << 4);
#pragma unroll
    for (int step = 0; step < kTileKeys / 16; ++step) {
      std::uint32_t a[4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float(&s)[4] = scores[2 * step + half];
        const float x = fast_exp2(fmaf(s[0], factor, -base)), y = fast_exp2(fmaf(s[1], factor, -base));
        total += x + y;
        a[2 * half] = PackedBf16::pack(x, y);
        const float2 rounded = PackedBf16::unpack(a[2 * half]);
        a[2 * half + 1] = PackedBf16::pack(x - rounded.x, y - rounded.y);
      }
#pragma unroll
      for (int i = 0; i < kGroups; i += 2) {
        std::uint32_t w[4];
        load_matrices_transposed(w,
                                 (value_packet ^ (i % 8) << 4) + (i / 8 * kBoxBytes + step * 16 * kRowBytes));
        if constexpr (kMasked) {
#pragma unroll
          for (int m = 0; m < 4; ++m) w[m] &= mask[2 * step + m % 2];
        }
        multiply(PackedBf16{}, sums[i], a, w[0], w[1]);
        multiply(PackedBf16{}, sums[i + 1], a, w[2], w[3]);
      }
    }
  }
};

template <int kWidth, int kQueries>
__global__ void __launch_bounds__(32 * kWarps<kWidth> + 32, 1)
    stream_kernel(__grid_constant__ const StreamArguments a, __grid_constant__ const Problem p,
                  __grid_constant__ const CacheMaps maps) {
  constexpr int kConsumers = 32 * kWarps<kWidth>;
  extern __shared__ unsigned char memory[];
  __shared__ float warp_top[kWarps<kWidth>][kQueries], warp_total[kWarps<kWidth>][kQueries];
  __shared__ bool is_last;
  __shared__ std::uint64_t barriers[2 * kMostStages];
  const SharedAddress boxes = (shared_address(memory) + 1023) / 1024 * 1024, full = shared_address(barriers),
                      empty = full + kMostStages * 8;
  // Behind the ring: the warps' sums.
  auto* warp_sums = reinterpret_cast<float(*)[kQueries][kWidth]>(memory + (boxes - shared_address(memory)) +
                                                                 a.stages * kStageBytes<kWidth>);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int s = 0; s < a.stages; ++s) {
      init_barrier(full + s * 8, 1);
      init_barrier(empty + s * 8, 1);
    }
    publish_barriers();
  }
  __syncthreads();
  let_next_start();
  if (!a.ahead) wait_for_earlier();

  const Order order{p, p.kv_heads * a.query_blocks};
  const Shares shares{order.count()};
  const std::int64_t begin = shares.begin(blockIdx.x), end = shares.begin(std::int64_t{blockIdx.x} + 1);
  if (begin == end) return;
  Head head = order.find(begin);

  if (warp == kWarps<kWidth>) {
    if (lane != 0) return;
    const CachePolicy once = used_once();
    std::int32_t filled = 0;
    int stage = 0, parity = 1;  // an empty ring's barriers count as passed
    for (std::int64_t at = begin; at < end; head = order.next(head)) {
      const Token token = token_at(p, head.token);
      const Visible visible(p, token.position);
      const std::int32_t kv_head = head.index / a.query_blocks;
      for (; at < min(end, head.first_tile + head.tiles); ++at) {
        const auto slot = (visible.first_tile + static_cast<std::int32_t>(at - head.first_tile)) * kTileKeys;
        if (filled >= a.stages) wait_for_phase(empty + stage * 8, parity);
        const SharedAddress to = boxes + stage * kStageBytes<kWidth>;
        arrive_expecting(full + stage * 8, kStageBytes<kWidth>);
        for (int box = 0; box < a.boxes; ++box) {
          const SharedAddress part = to + box * kBoxBytes;
          copy_box(part, maps.k, full + stage * 8, once, box * kBoxWidth, kv_head, slot, 0, token.segment);
          copy_box(part + kStageBytes<kWidth> / 2, maps.v, full + stage * 8, once, box * kBoxWidth, kv_head,
                   slot, 0, token.segment);
        }
        ++filled;
        if (++stage == a.stages) stage = 0, parity ^= 1;
      }
    }
    return;
  }

  if (a.ahead) wait_for_earlier();
  const float factor = p.scale * kLog2E;
  const std::int32_t group = p.heads / p.kv_heads;
  WarpSoftmax<kWidth> softmax;
  std::int32_t taken = 0;  // tiles of this block so far, by all warps
  int stage = 0, parity = 0;
  for (std::int64_t at = begin; at < end; head = order.next(head)) {
    const Token token = token_at(p, head.token);
    const Visible visible(p, token.position);
    const std::int32_t kv_head = head.index / a.query_blocks, first = head.index % a.query_blocks * kQueries,
                       queries = min(kQueries, group - first);
    const std::int64_t first_row = std::int64_t{head.token} * p.heads + kv_head * group + first;
    softmax.start(a.q + first_row * p.width, queries, p.width, lane);
    for (; at < min(end, head.first_tile + head.tiles); ++at, ++taken) {
      if (taken % kWarps<kWidth> == warp) {
        const std::int32_t slot =
            (visible.first_tile + static_cast<std::int32_t>(at - head.first_tile)) * kTileKeys;
        const SharedAddress keys = boxes + stage * kStageBytes<kWidth>,
                            values = keys + kStageBytes<kWidth> / 2;
        wait_for_phase(full + stage * 8, parity);
        const std::int32_t own = visible.current - slot;  // row of the token's own key
        const bool puts = a.k_fresh != nullptr && own >= 0 && own < kTileKeys;
        if (puts) {
          const std::int64_t from = (std::int64_t{head.token} * p.kv_heads + kv_head) * p.width,
                             to = ((std::int64_t{token.segment} * p.capacity + visible.current) * p.kv_heads +
                                   kv_head) *
                                  p.width;
          for (int i = lane; i < p.width / 8; i += 32) {
            const uint4 k = *reinterpret_cast<const uint4*>(a.k_fresh + from + 8 * i),
                        v = *reinterpret_cast<const uint4*>(a.v_fresh + from + 8 * i);
            store_shared(WarpSoftmax<kWidth>::packet_at(keys, own, i), k);
            store_shared(WarpSoftmax<kWidth>::packet_at(values, own, i), v);
            if (first == 0) {
              *reinterpret_cast<uint4*>(a.k + to + 8 * i) = k;
              *reinterpret_cast<uint4*>(a.v + to + 8 * i) = v;
            }
          }
          __syncwarp();
        }
        const auto sees = [&](int row) { return visible.sees(p, slot + row); };
        if (visible.sees_all_from(p, slot)) {
          softmax.template take<false>(keys, values, factor, lane, sees);
        } else {
          softmax.template take<true>(keys, values, factor, lane, sees);
        }
        if (puts) fence_shared_for_async();
        __syncwarp();
        if (lane == 0) arrive(empty + stage * 8);
      }
      if (++stage == a.stages) stage = 0, parity ^= 1;
    }

    // The warps' sums become the head's, or a piece of it.
    const int g = lane / 4, t = lane % 4;
    float total = softmax.total;
#pragma unroll
    for (int step = 1; step < 4; step *= 2) total += __shfl_xor_sync(0xffffffffU, total, step);
    if (g < kQueries) {
      if (t == 0) {
        warp_top[warp][g] = softmax.top * factor;
        warp_total[warp][g] = total;
      }
#pragma unroll
      for (int i = 0; i < kWidth / 8; ++i) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          warp_sums[warp][g][8 * i + 2 * t + c] = softmax.sums[i][c] + softmax.sums[i][2 + c];
        }
      }
    }
    block_barrier<kConsumers>();
    const std::int64_t first_block = shares.block_of(head.first_tile),
                       last_block = shares.block_of(head.first_tile + head.tiles - 1);
    // A block's second piece is that of a head which begins in it.
    const auto piece_of = [&](std::int64_t block) {
      return (2 * block + (head.first_tile >= shares.begin(block) ? 1 : 0)) * kQueries;
    };
    const bool whole = first_block == last_block;
    for (int h = 0; h < queries; ++h) {
      float top = -INFINITY, sum_of_weights = 0, factors[kWarps<kWidth>];
#pragma unroll
      for (int w = 0; w < kWarps<kWidth>; ++w) top = fmaxf(top, warp_top[w][h]);
#pragma unroll
      for (int w = 0; w < kWarps<kWidth>; ++w) {
        factors[w] = top == -INFINITY ? 0.0F : fast_exp2(warp_top[w][h] - top);
        sum_of_weights = fmaf(factors[w], warp_total[w][h], sum_of_weights);
      }
      const std::int64_t piece = piece_of(blockIdx.x) + h;
      for (int d = static_cast<int>(threadIdx.x); d < p.width; d += kConsumers) {
        float sum = 0;
#pragma unroll
        for (int w = 0; w < kWarps<kWidth>; ++w) sum = fmaf(factors[w], warp_sums[w][h][d], sum);
        if (whole) {
          a.y[(first_row + h) * p.width + d] = from_float<bf16>(sum / sum_of_weights);
        } else {
          __stcg(a.sums + piece * p.width + d, sum);
        }
      }
      if (!whole && threadIdx.x == 0) {
        __stcg(a.stats + 2 * piece, top);
        __stcg(a.stats + 2 * piece + 1, sum_of_weights);
      }
    }
    if (!whole) {
      __threadfence();
      block_barrier<kConsumers>();
      if (threadIdx.x == 0) {
        std::uint32_t& arrived = a.arrived[std::int64_t{head.token} * order.heads + head.index];
        is_last = atomicAdd(&arrived, 1U) == static_cast<std::uint32_t>(last_block - first_block);
        if (is_last) arrived = 0;
      }
      block_barrier<kConsumers>();
      if (is_last) {
        __threadfence();
        for (int h = 0; h < queries; ++h) {
          float top = -INFINITY, sum_of_weights = 0;
          for (std::int64_t b = first_block; b <= last_block; ++b) {
            top = fmaxf(top, __ldcg(a.stats + 2 * (piece_of(b) + h)));
          }
          for (std::int64_t b = first_block; b <= last_block; ++b) {
            const float* stats = a.stats + 2 * (piece_of(b) + h);
            sum_of_weights = fmaf(fast_exp2(__ldcg(stats) - top), __ldcg(stats + 1), sum_of_weights);
          }
          for (int d = static_cast<int>(threadIdx.x); d < p.width; d += kConsumers) {
            float sum = 0;
            for (std::int64_t b = first_block; b <= last_block; ++b) {
              const std::int64_t piece = piece_of(b) + h;
              sum = fmaf(fast_exp2(__ldcg(a.stats + 2 * piece) - top), __ldcg(a.sums + piece * p.width + d),
                         sum);
            }
            a.y[(first_row + h) * p.width + d] = from_float<bf16>(sum / sum_of_weights);
          }
        }
      }
    }
    block_barrier<kConsumers>();  // the sums are read, and may be written again
  }
}

// Whole boxes beside each other are one of five dimensions. Beyond the width a box has zeros.
bool has_whole_boxes(std::int64_t width) { return width % kBoxWidth == 0; }
CUtensorMap map_of(const ConstTensor& cache, int boxes) {
  const auto S = cache.shape[0], C = cache.shape[1], H = cache.shape[2], D = cache.shape[3];
  const auto extent = [](std::int64_t n) { return static_cast<std::uint64_t>(n); };
  const bool whole = has_whole_boxes(D);
  return make_tensor_map(
      {.data = cache.data,
       .shape = {extent(whole ? kBoxWidth : D), extent(H), extent(C), extent(whole ? D / kBoxWidth : 1),
                 extent(S)},
       .stride_bytes = {extent(2 * D), extent(2 * H * D), 2 * kBoxWidth, extent(2 * C * H * D)},
       .box = {kBoxWidth, 1, kTileKeys, static_cast<std::uint32_t>(whole ? boxes : 1), 1}});
}

bool can_stream(const ops::AttentionInputs& in) {
  return in.q.dtype == DType::bf16 && in.q.shape[2] % 8 == 0;
}
std::int64_t queries_of(const ops::AttentionInputs& in) {
  return in.q.shape[1] == in.k.shape[1] ? 1 : kManyQueries;
}
// Of a token.
std::int64_t heads_of(const ops::AttentionInputs& in) {
  return in.k.shape[1] * ceil_div(in.q.shape[1] / in.k.shape[1], queries_of(in));
}

}  // namespace

// With fewer heads the first loads are nearly all, and blocks of their own begin sooner. All of a ring that
// has wrapped is read, so that it may not be much longer than the window.
bool streams(const Context& ctx, const ops::AttentionInputs& in, const Problem& p) {
  const std::int64_t window = p.window, capacity = p.capacity;
  return can_stream(in) && p.scale > 0 && capacity <= window + window / 4 &&
         in.q.shape[0] * heads_of(in) >= state_of(ctx).multiprocessors;
}

std::int64_t stream_rows(const Context& ctx, const ops::AttentionInputs& in) {
  return can_stream(in) ? 2 * state_of(ctx).multiprocessors * queries_of(in) : 0;
}

void decode_stream(Context& ctx, Tensor y, const ops::KeyValueCache& cache, const ops::AttentionInputs& in,
                   bool append, const DecodeScratch& scratch, const Problem& p) {
  const State& state = state_of(ctx);
  visit_width(p.width, [&]<int kWidth>() {
    const auto launch_with = [&]<int kQueries>() {
      constexpr int kOther = 4 * 1024, kBoxes = kWidth / kBoxWidth;  // kOther: alignment, barriers
      const int room = static_cast<int>(state.shared_bytes) - kOther - kJoinBytes<kWidth, kQueries>;
      // Each place of the ring is one warp's: a warp that came to another's might be a turn ahead of it.
      const int stages = std::min(room / kStageBytes<kWidth>, kMostStages) / kWarps<kWidth> * kWarps<kWidth>;
      const int bytes = 1024 + stages * kStageBytes<kWidth> + kJoinBytes<kWidth, kQueries>;
      const StreamArguments arguments{.y = pointer<bf16>(y),
                                      .sums = pointer<float>(scratch.sums),
                                      .stats = pointer<float>(scratch.stats),
                                      .arrived = state.meetings,
                                      .q = pointer<bf16>(in.q),
                                      .k = pointer<bf16>(cache.k),
                                      .v = pointer<bf16>(cache.v),
                                      .k_fresh = append ? pointer<bf16>(in.k) : nullptr,
                                      .v_fresh = append ? pointer<bf16>(in.v) : nullptr,
                                      .query_blocks = static_cast<std::int32_t>(heads_of(in) / p.kv_heads),
                                      .stages = stages,
                                      .boxes = has_whole_boxes(p.width) ? 1 : kBoxes,
                                      .ahead = append && ctx.fetch == Fetch::ahead};
      const auto kernel = stream_kernel<kWidth, kQueries>;
      check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                 "attention_cached");
      launch_early(ctx, "attention_cached", kernel,
                   {.grid = dim3(static_cast<unsigned>(state.multiprocessors)),
                    .threads = 32 * kWarps<kWidth> + 32,
                    .shared_bytes = static_cast<std::size_t>(bytes)},
                   arguments, p, CacheMaps{map_of(cache.k, kBoxes), map_of(cache.v, kBoxes)});
    };
    if (queries_of(in) == 1) return launch_with.template operator()<1>();
    launch_with.template operator()<kManyQueries>();
  });
}

}  // namespace braid::cuda::flash
