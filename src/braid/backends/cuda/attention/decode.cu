// Few new tokens against long caches: the keys of each token are split among blocks (flash decoding); the one
// that ends last joins their partial softmaxes, in the order of the keys. Bound by reading the cache once: 2
// · length · Hkv · D elements a sequence. Many tokens of bf16: decode_stream.cu.
#include "braid/backends/cuda/attention/decode.cuh"
#include "braid/backends/cuda/attention/tiles.cuh"
#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/math.cuh"

namespace braid::cuda::flash {
namespace {

constexpr int kThreads = 128, kMostQueries = 4;
constexpr int kElementsPerLane = 32;  // of a team's queries: few lanes share the work that every key costs
// Keys that a team has in hand.
template <int kQueries>
constexpr int kKeysAtOnce = kQueries;
constexpr std::int32_t kLeastChunk = 64;  // keys that make a block worth its start
constexpr std::int64_t kMostSplits = 128;
// Blocks of a multiprocessor at once; a second wave would pay every start and end again.
constexpr std::int64_t kResident = 4;

// Query heads of a group that one block takes, so that it reads each key for all of them: a power of two.
std::int64_t queries_per_block(std::int64_t group) {
  return group >= kMostQueries ? kMostQueries : group > 1 ? 2 : 1;
}
// Blocks of a token, were its keys not split.
std::int64_t blocks_of_token(std::int64_t heads, std::int64_t kv_heads) {
  const auto group = heads / kv_heads;
  return kv_heads * ceil_div(group, queries_per_block(group));
}

// How the keys that a query sees are cut: `used` splits get some, those after them none.
struct Cut {
  std::int32_t lowest, keys, chunk, used;

  __device__ __forceinline__ Cut(const Problem& p, std::int32_t position, std::int32_t splits)
      : lowest(first_visible(p, position)), keys(position + 1 - lowest) {
    const std::int32_t even = (keys + splits - 1) / splits;
    chunk = max(kLeastChunk, (even + 31) / 32 * 32);
    used = (keys + chunk - 1) / chunk;
  }
  __device__ __forceinline__ std::int32_t begin(std::int32_t split) const { return split * chunk; }
  __device__ __forceinline__ std::int32_t count(std::int32_t split) const {
    return min(chunk, keys - begin(split));
  }
};

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
  using Whole = Pack<T>;
  Whole packs[kPacks];

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
  T* y;
  float *sums, *stats;
  std::uint32_t* arrived;  // of each token, key/value head and part of its query heads
  const T* q;
  T *k, *v;                    // the caches
  const T *k_fresh, *v_fresh;  // (N, Hkv, D): not in the caches yet, but put there; null: they are
  std::int32_t splits;
  bool ahead;  // lengths may be read before the kernel's turn
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

// Adds up what the splits of one query left, in their order.
template <class T>
__device__ __forceinline__ void join(T* y, const float* sums, const float* stats, std::int32_t used,
                                     std::int32_t width) {
  float top = -INFINITY, total = 0;
#pragma unroll 8
  for (int s = 0; s < used; ++s) top = fmaxf(top, __ldcg(stats + 2 * s));
#pragma unroll 8
  for (int s = 0; s < used; ++s) {
    total = fmaf(decay<T>(__ldcg(stats + 2 * s) - top), __ldcg(stats + 2 * s + 1), total);
  }
  for (int d = static_cast<int>(threadIdx.x); d < width; d += kThreads) {
    float sum = 0;
#pragma unroll 8
    for (int s = 0; s < used; ++s) {
      sum = fmaf(decay<T>(__ldcg(stats + 2 * s) - top), __ldcg(sums + std::int64_t{s} * width + d), sum);
    }
    y[d] = from_float<T>(sum / total);
  }
}

// What the teams of a block leave for each other.
template <int kTeams, int kQueries, int kWidth>
struct Teams {
  float (*sums)[kQueries][kWidth];  // of each team
  float (*top)[kQueries], (*total)[kQueries];
  bool* is_last;
};

// Adds up the teams' sums for `queries` rows from first_row on, then those of all splits where the block is
// the last of them.
template <class T, int kTeams, int kQueries, int kWidth>
__device__ __forceinline__ void finish(const Arguments<T>& a, const Problem& p, const Cut& cut,
                                       std::int32_t split, std::int64_t first_row, std::int32_t queries,
                                       const Teams<kTeams, kQueries, kWidth>& teams) {
#pragma unroll
  for (int h = 0; h < kQueries; ++h) {
    if (h >= queries) break;
    const std::int64_t at = (first_row + h) * a.splits + split;
    float top = -INFINITY, total = 0, factors[kTeams];
#pragma unroll
    for (int t = 0; t < kTeams; ++t) top = fmaxf(top, teams.top[t][h]);
#pragma unroll
    for (int t = 0; t < kTeams; ++t) {
      factors[t] = decay<T>(teams.top[t][h] - top);
      total = fmaf(factors[t], teams.total[t][h], total);
    }
    for (int d = static_cast<int>(threadIdx.x); d < p.width; d += kThreads) {
      float sum = 0;
#pragma unroll
      for (int t = 0; t < kTeams; ++t) sum = fmaf(factors[t], teams.sums[t][h][d], sum);
      if (cut.used == 1) {
        a.y[(first_row + h) * p.width + d] = from_float<T>(sum / total);
      } else {
        __stcg(a.sums + at * p.width + d, sum);
      }
    }
    if (threadIdx.x == 0) {
      __stcg(a.stats + 2 * at, top);
      __stcg(a.stats + 2 * at + 1, total);
    }
  }
  if (cut.used == 1) return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    std::uint32_t& arrived = a.arrived[blockIdx.x / static_cast<unsigned>(a.splits)];
    *teams.is_last = atomicAdd(&arrived, 1U) + 1 == static_cast<std::uint32_t>(cut.used);
    if (*teams.is_last) arrived = 0;
  }
  __syncthreads();
  if (!*teams.is_last) return;
  __threadfence();
  for (int h = 0; h < queries; ++h) {
    const std::int64_t row = first_row + h;
    join(a.y + row * p.width, a.sums + row * a.splits * p.width, a.stats + row * a.splits * 2, cut.used,
         p.width);
  }
}

// One block per token, key/value head, kQueries of its query heads, and split. Teams of lanes take keys in
// turn, each with its own running softmax; shared memory joins them.
template <class T, int kWidth, int kQueries, bool kWhole>
__global__ void __launch_bounds__(kThreads) split_kernel(Arguments<T> a, Problem p) {
  using R = Row<T, kWidth, kQueries, kWhole>;
  constexpr int kTeams = kThreads / R::kLanes, kUnroll = kKeysAtOnce<kQueries>;
  __shared__ float team_sums[kTeams][kQueries][kWidth];
  __shared__ float team_top[kTeams][kQueries], team_total[kTeams][kQueries];
  __shared__ bool is_last;
  const Teams<kTeams, kQueries, kWidth> teams{team_sums, team_top, team_total, &is_last};
  begin_early(a.ahead);

  const std::int32_t group = p.heads / p.kv_heads, query_blocks = (group + kQueries - 1) / kQueries;
  auto block = static_cast<std::int32_t>(blockIdx.x);
  const std::int32_t split = block % a.splits;
  block /= a.splits;
  const std::int32_t first = block % query_blocks * kQueries;  // query head within the group
  block /= query_blocks;
  const std::int32_t kv_head = block % p.kv_heads, n = block / p.kv_heads;
  const Token token = token_at(p, n);
  const Cut cut(p, token.position, a.splits);
  if (a.ahead) wait_for_earlier();
  if (split >= cut.used) return;

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
  const std::uint32_t slot = key_rows.slot(cut.lowest + cut.begin(split));
  const std::int32_t keys = cut.count(split);
  // The token's own key comes last of all.
  const std::int32_t fresh = a.k_fresh != nullptr && split + 1 == cut.used ? keys - 1 : -1;
  const std::int64_t fresh_row = (std::int64_t{n} * p.kv_heads + kv_head) * p.width;
  // Takes keys and their values, every kTeams-th of `left`.
  const auto take = [&](const R(&key)[kUnroll], const R(&value)[kUnroll], std::int32_t left) {
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
        scores[u] = u * kTeams < left ? dot : -INFINITY;
      }
      partial[h].template add<kUnroll>(scores, value);
    }
  };
  const std::int32_t cached = fresh >= 0 ? fresh : keys;
  constexpr std::int32_t kStep = kTeams * kUnroll;
  for (std::int32_t begin = 0; begin < cached; begin += kStep) {
    R key[kUnroll], value[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const std::int32_t j = begin + u * kTeams + team;
      key[u].load(j < cached ? key_rows.row(slot, j) : nullptr, lane, p.width);
      value[u].load(j < cached ? value_rows.row(slot, j) : nullptr, lane, p.width);
    }
    take(key, value, cached - begin - team);
  }
  if (fresh >= 0) {
    R key[kUnroll], value[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const bool mine = u == 0 && team == 0;
      key[u].load(mine ? a.k_fresh + fresh_row : nullptr, lane, p.width);
      value[u].load(mine ? a.v_fresh + fresh_row : nullptr, lane, p.width);
    }
    take(key, value, team == 0 ? 1 : 0);
  }

#pragma unroll
  for (int h = 0; h < kQueries; ++h) {
#pragma unroll
    for (int i = 0; i < R::kElements; ++i) teams.sums[team][h][R::element(lane, i)] = partial[h].sums[i];
    if (lane == 0) {
      teams.top[team][h] = partial[h].top;
      teams.total[team][h] = partial[h].total;
    }
  }
  if (fresh >= 0 && first == 0) {
    const std::int64_t to = key_rows.row(slot, fresh) - a.k;
    for (int d = static_cast<int>(threadIdx.x); d < p.width; d += kThreads) {
      a.k[to + d] = a.k_fresh[fresh_row + d];
      a.v[to + d] = a.v_fresh[fresh_row + d];
    }
  }
  __syncthreads();
  finish(a, p, cut, split, first_row, min(kQueries, group - first), teams);
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
  const auto N = in.q.shape[0], H = in.q.shape[1], D = in.q.shape[2];
  const auto capacity = cache.k.shape[1];
  const auto keys = options.window == 0 ? capacity : std::min(capacity, options.window);
  const auto at_once = kResident * state_of(ctx).multiprocessors / blocks_of_token(H, in.k.shape[1]);
  const auto most = std::min(ceil_div(keys, kLeastChunk), kMostSplits);
  const auto splits = std::clamp<std::int64_t>(at_once / std::max<std::int64_t>(N, 1), 1, most);
  // Never less for more tokens, so that room for all sequences is room for some of them.
  const auto rows = std::max(H * std::max(N, std::min(at_once, N * most)), stream_rows(ctx, in));
  return {.splits = static_cast<std::int32_t>(splits),
          .sums = ctx.scratch->make(DType::f32, {rows, D}),
          .stats = ctx.scratch->make(DType::f32, {rows, 2})};
}

bool decode_supports(const ops::AttentionInputs& in) {
  return in.q.shape[0] * blocks_of_token(in.q.shape[1], in.k.shape[1]) <= State::kMeetings;
}

void decode(Context& ctx, Tensor y, const ops::KeyValueCache& cache, const ops::AttentionInputs& in,
            bool append, const DecodeScratch& scratch, const Problem& p) {
  if (y.count() == 0) return;
  if (streams(ctx, in, p)) return decode_stream(ctx, y, cache, in, append, scratch, p);
  const auto queries = queries_per_block(p.heads / p.kv_heads);
  visit_activation("attention_cached", in.q.dtype, [&]<class T>() {
    const Arguments<T> arguments{.y = pointer<T>(y),
                                 .sums = pointer<float>(scratch.sums),
                                 .stats = pointer<float>(scratch.stats),
                                 .arrived = state_of(ctx).meetings,
                                 .q = pointer<T>(in.q),
                                 .k = pointer<T>(cache.k),
                                 .v = pointer<T>(cache.v),
                                 .k_fresh = append ? pointer<T>(in.k) : nullptr,
                                 .v_fresh = append ? pointer<T>(in.v) : nullptr,
                                 .splits = scratch.splits,
                                 .ahead = append && ctx.fetch == Fetch::ahead};
    const auto blocks = p.tokens * blocks_of_token(p.heads, p.kv_heads) * scratch.splits;
    visit_width(p.width, [&]<int kWidth>() {
      visit_queries(queries, [&]<int kQueries>() {
        const auto kernel = p.width % Pack<T>::kSize == 0 ? split_kernel<T, kWidth, kQueries, true>
                                                          : split_kernel<T, kWidth, kQueries, false>;
        launch_early(ctx, "attention_cached", kernel, {dim3(static_cast<unsigned>(blocks)), kThreads},
                     arguments, p);
      });
    });
  });
}

}  // namespace braid::cuda::flash
