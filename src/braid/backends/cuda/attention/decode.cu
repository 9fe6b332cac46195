// Few new tokens against long caches: the keys of each token are split among blocks (flash decoding), whose
// partial softmaxes a second launch joins. Bound by reading the cache once: 2 · length · Hkv · D elements a
// sequence.
#include "braid/backends/cuda/attention/tiles.cuh"
#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/math.cuh"
#include "braid/backends/cuda/device/segments.cuh"

namespace braid::cuda::flash {
namespace {

constexpr int kThreads = 128, kMostQueries = 4;
constexpr int kElementsPerLane = 32;  // of a team's queries: few lanes share the work that every key costs
// Keys that a team has in hand.
template <int kQueries>
constexpr int kKeysAtOnce = kQueries;
constexpr std::int32_t kLeastChunk = 64;  // keys that make a block worth its start
constexpr std::int64_t kMostSplits = 128;
constexpr std::int64_t kBlocksPerMultiprocessor = 16;

// Query heads of a group that one block takes, so that it reads each key for all of them: a power of two.
std::int64_t queries_per_block(std::int64_t group) {
  return group >= kMostQueries ? kMostQueries : group > 1 ? 2 : 1;
}

struct Span {
  std::int32_t begin, end;
};
// Positions of the keys that split `split` of a query takes; empty for surplus splits.
__device__ __forceinline__ Span split_span(const Problem& p, std::int32_t position, int split, int splits) {
  const std::int32_t lowest = first_visible(p, position), keys = position + 1 - lowest;
  const std::int32_t even = (keys + splits - 1) / splits, chunk = max(kLeastChunk, (even + 31) / 32 * 32);
  const std::int64_t begin = std::int64_t{split} * chunk;
  if (begin >= keys) return {0, 0};
  return {lowest + static_cast<std::int32_t>(begin),
          lowest + static_cast<std::int32_t>(min(begin + chunk, std::int64_t{keys}))};
}

struct Token {
  std::int32_t segment, position;
};
__device__ __forceinline__ Token token_at(const Problem& p, std::int64_t n) {
  const std::int32_t s = DeviceSegments{p.offsets, p.segments}.segment_of(n);
  return {s, p.lengths[s] + static_cast<std::int32_t>(n) - p.offsets[s]};
}

// exp(x), x <= 0
template <class T>
__device__ __forceinline__ float decay(float x) {
  if constexpr (sizeof(T) == sizeof(float)) return expf(x);
  return __expf(x);
}

// How a team of lanes shares one row of a head: lane l holds the packs l, l + kLanes, ... of 16 bytes.
template <class T, int kWidth, int kQueries, bool kWhole>
struct Row {
  static constexpr int kPack = Pack<T>::kSize;
  static constexpr int kLanes =
      std::clamp(kWidth * kQueries / kElementsPerLane, 1, std::min(kWidth / kPack, 32));
  static constexpr int kPacks = kWidth / (kPack * kLanes), kElements = kPacks * kPack;
  Pack<T> packs[kPacks];

  static __device__ __forceinline__ int element(int lane, int i) {
    return (lane + i / kPack * kLanes) * kPack + i % kPack;
  }
  // kWhole: every row is whole packs, at addresses of whole packs. Null gives zeros.
  __device__ __forceinline__ void load(const T* row, int lane, std::int32_t width) {
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      const int d = element(lane, i * kPack);
      if constexpr (kWhole) {
        packs[i] = row != nullptr && d < width ? *reinterpret_cast<const Pack<T>*>(row + d) : Pack<T>{};
      } else {
#pragma unroll
        for (int e = 0; e < kPack; ++e) {
          packs[i].values[e] = row != nullptr && d + e < width ? row[d + e] : from_float<T>(0);
        }
      }
    }
  }
  __device__ __forceinline__ float operator[](int i) const {
    return to_float(packs[i / kPack].values[i % kPack]);
  }
};

template <class T>
struct Arguments {
  float *sums, *stats;
  const T *q, *k, *v;
  std::int32_t splits;
};

// One query's softmax over the keys that one team saw.
template <class T, int kElements>
struct Partial {
  float q[kElements], sums[kElements] = {}, top = -INFINITY, total = 0;

  // Takes kUnroll keys with their scores (-inf: none) and values.
  template <int kUnroll, class R>
  __device__ __forceinline__ void add(const float (&scores)[kUnroll], const R (&values)[kUnroll]) {
    float most = top;
#pragma unroll
    for (float s : scores) most = fmaxf(most, s);
    const float base = most == -INFINITY ? 0.0F : most;
    const float factor = decay<T>(top - base);
    top = most;
    total *= factor;
#pragma unroll
    for (float& s : sums) s *= factor;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const float weight = decay<T>(scores[u] - base);
      total += weight;
#pragma unroll
      for (int i = 0; i < kElements; ++i) sums[i] = fmaf(weight, values[u][i], sums[i]);
    }
  }
};

// One block per token, key/value head, kQueries of its query heads, and split. Teams of lanes take keys in
// turn, each with its own running softmax; shared memory joins them.
template <class T, int kWidth, int kQueries, bool kWhole>
__global__ void __launch_bounds__(kThreads) split_kernel(Arguments<T> a, Problem p) {
  using R = Row<T, kWidth, kQueries, kWhole>;
  constexpr int kTeams = kThreads / R::kLanes, kUnroll = kKeysAtOnce<kQueries>;
  __shared__ float team_sums[kTeams][kQueries][kWidth];
  __shared__ float team_top[kTeams][kQueries], team_total[kTeams][kQueries];
  begin_early();

  const std::int32_t group = p.heads / p.kv_heads, query_blocks = (group + kQueries - 1) / kQueries;
  auto block = static_cast<std::int32_t>(blockIdx.x);
  const std::int32_t split = block % a.splits;
  block /= a.splits;
  const std::int32_t first = block % query_blocks * kQueries;  // query head within the group
  block /= query_blocks;
  const std::int32_t kv_head = block % p.kv_heads, n = block / p.kv_heads;
  const Token token = token_at(p, n);
  const Span span = split_span(p, token.position, split, a.splits);
  if (span.begin >= span.end) return;

  const int lane = static_cast<int>(threadIdx.x) % R::kLanes,
            team = static_cast<int>(threadIdx.x) / R::kLanes;
  const std::int64_t first_row = std::int64_t{n} * p.heads + kv_head * group + first;
  Partial<T, R::kElements> partial[kQueries];
#pragma unroll
  for (int h = 0; h < kQueries; ++h) {
    R row;
    row.load(first + h < group ? a.q + (first_row + h) * p.width : nullptr, lane, p.width);
#pragma unroll
    for (int i = 0; i < R::kElements; ++i) partial[h].q[i] = p.scale * row[i];
  }
  const KeyRows<T> key_rows(a.k, p, token.segment, 0, kv_head), value_rows(a.v, p, token.segment, 0, kv_head);
  const std::uint32_t slot = key_rows.slot(span.begin);
  const std::int32_t keys = span.end - span.begin;
  for (std::int32_t begin = 0; begin < keys; begin += kTeams * kUnroll) {
    R key[kUnroll], value[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const std::int32_t j = begin + u * kTeams + team;
      key[u].load(j < keys ? key_rows.row(slot, j) : nullptr, lane, p.width);
      value[u].load(j < keys ? value_rows.row(slot, j) : nullptr, lane, p.width);
    }
#pragma unroll
    for (int h = 0; h < kQueries; ++h) {
      float scores[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        float dot = 0;
#pragma unroll
        for (int i = 0; i < R::kElements; ++i) dot = fmaf(partial[h].q[i], key[u][i], dot);
#pragma unroll
        for (int step = R::kLanes / 2; step > 0; step /= 2) dot += __shfl_xor_sync(0xffffffffU, dot, step);
        scores[u] = begin + u * kTeams + team < keys ? dot : -INFINITY;
      }
      partial[h].template add<kUnroll>(scores, value);
    }
  }

#pragma unroll
  for (int h = 0; h < kQueries; ++h) {
#pragma unroll
    for (int i = 0; i < R::kElements; ++i) team_sums[team][h][R::element(lane, i)] = partial[h].sums[i];
    if (lane == 0) {
      team_top[team][h] = partial[h].top;
      team_total[team][h] = partial[h].total;
    }
  }
  __syncthreads();
#pragma unroll
  for (int h = 0; h < kQueries; ++h) {
    if (first + h >= group) break;
    const std::int64_t at = (first_row + h) * a.splits + split;
    float top = -INFINITY, total = 0, factors[kTeams];
#pragma unroll
    for (int t = 0; t < kTeams; ++t) top = fmaxf(top, team_top[t][h]);
#pragma unroll
    for (int t = 0; t < kTeams; ++t) {
      factors[t] = decay<T>(team_top[t][h] - top);
      total = fmaf(factors[t], team_total[t][h], total);
    }
    for (int d = static_cast<int>(threadIdx.x); d < p.width; d += kThreads) {
      float sum = 0;
#pragma unroll
      for (int t = 0; t < kTeams; ++t) sum = fmaf(factors[t], team_sums[t][h][d], sum);
      a.sums[at * p.width + d] = sum;
    }
    if (threadIdx.x == 0) {
      a.stats[2 * at] = top;
      a.stats[2 * at + 1] = total;
    }
  }
}

// One warp joins the splits of one token and head.
template <class T>
__global__ void __launch_bounds__(kThreads)
    join_kernel(T* y, const float* sums, const float* stats, std::int32_t splits, Problem p) {
  constexpr int kPerLane = static_cast<int>(kMostHeadWidth) / 32;
  begin_early();
  const std::int64_t row = std::int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (row >= p.tokens * p.heads) return;
  const Token token = token_at(p, row / p.heads);
  sums += row * splits * p.width;
  stats += row * splits * 2;

  int used = 0;  // splits that hold keys come first
  float top = -INFINITY;
  for (int s = lane; s < splits; s += 32) {
    const Span span = split_span(p, token.position, s, splits);
    if (span.begin >= span.end) break;
    top = fmaxf(top, stats[2 * s]);
    used = s + 1;
  }
  top = warp_max(top);
  used = __reduce_max_sync(0xffffffffU, used);

  float sum[kPerLane] = {}, total = 0;
#pragma unroll 4
  for (int s = 0; s < used; ++s) {
    const float factor = decay<T>(stats[2 * s] - top);
    total = fmaf(factor, stats[2 * s + 1], total);
#pragma unroll
    for (int c = 0; c < kPerLane; ++c) {
      const int d = lane + 32 * c;
      if (d < p.width) sum[c] = fmaf(factor, sums[std::int64_t{s} * p.width + d], sum[c]);
    }
  }
#pragma unroll
  for (int c = 0; c < kPerLane; ++c) {
    const int d = lane + 32 * c;
    if (d < p.width) y[row * p.width + d] = from_float<T>(sum[c] / total);
  }
}

template <class F>
void visit_queries(std::int64_t queries, F&& f) {
  if (queries == 1) return f.template operator()<1>();
  if (queries == 2) return f.template operator()<2>();
  f.template operator()<kMostQueries>();
}

}  // namespace

DecodeScratch make_decode_scratch(Context& ctx, const ops::AttentionInputs& in,
                                  const ops::KeyValueCache& cache, const ops::AttentionOptions& options) {
  const auto N = in.q.shape[0], H = in.q.shape[1], D = in.q.shape[2], Hkv = in.k.shape[1], group = H / Hkv;
  const auto capacity = cache.k.shape[1];
  const auto keys = options.window == 0 ? capacity : std::min(capacity, options.window);
  const auto whole = N * Hkv * ceil_div(group, queries_per_block(group));  // blocks without splitting
  const auto wanted =
      ceil_div(kBlocksPerMultiprocessor * state_of(ctx).multiprocessors, std::max<std::int64_t>(whole, 1));
  const auto splits = std::clamp<std::int64_t>(std::min(ceil_div(keys, kLeastChunk), wanted), 1, kMostSplits);
  return {.sums = ctx.scratch->make(DType::f32, {N, H, splits, D}),
          .stats = ctx.scratch->make(DType::f32, {N, H, splits, 2})};
}

void decode(Context& ctx, Tensor y, ConstTensor q, ConstTensor k, ConstTensor v, const DecodeScratch& scratch,
            const Problem& p) {
  if (y.count() == 0) return;
  const auto splits = static_cast<std::int32_t>(scratch.sums.shape[2]);
  const std::int64_t group = p.heads / p.kv_heads, queries = queries_per_block(group);
  visit_activation("attention_cached", q.dtype, [&]<class T>() {
    const Arguments<T> arguments{pointer<float>(scratch.sums),
                                 pointer<float>(scratch.stats),
                                 pointer<T>(q),
                                 pointer<T>(k),
                                 pointer<T>(v),
                                 splits};
    const auto blocks = p.tokens * p.kv_heads * ceil_div(group, queries) * splits;
    visit_width(p.width, [&]<int kWidth>() {
      visit_queries(queries, [&]<int kQueries>() {
        const auto kernel = p.width % Pack<T>::kSize == 0 ? split_kernel<T, kWidth, kQueries, true>
                                                          : split_kernel<T, kWidth, kQueries, false>;
        launch_early(ctx, "attention_cached", kernel, {dim3(static_cast<unsigned>(blocks)), kThreads},
                     arguments, p);
      });
    });
    const auto joins = static_cast<unsigned>(ceil_div(p.tokens * p.heads, kThreads / 32));
    launch_early(ctx, "attention_cached", join_kernel<T>, {dim3(joins), kThreads}, pointer<T>(y),
                 arguments.sums, arguments.stats, splits, p);
  });
}

}  // namespace braid::cuda::flash
