// Draws tokens without sorting: what the filters keep is always the front part of the row ordered best first,
// so each is a place in that order, found by counting or by adding weights in bins that get narrower. A
// cluster of blocks shares a row. Weights are integers (fixed point), so that sums need no order to be
// reproducible.
#include <cooperative_groups.h>

#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda {
namespace {

namespace groups = cooperative_groups;
using Bits = unsigned long long;

constexpr int kThreads = 512, kBlocks = 8, kWarps = kThreads / 32, kBins = 256, kAtOnce = 4;
constexpr std::uint32_t kStep = kThreads * kBlocks;
constexpr double kOne = 0x1p44;    // the best token's weight; those below a half are never drawn
constexpr double kCoarseBins = 8;  // first bins per unit of logit, counted from the best
constexpr Bits kLast = ~Bits{0};   // behind every token

struct Arguments {
  std::int32_t* ids;
  const float* logits;
  const double *uniform, *temperature, *top_p, *min_p, *repetition_penalty;
  const std::int64_t* top_k;
  const std::int32_t *seen, *seen_offsets;
  double* values;  // (S, V) penalised logits
  Bits* weights;   // (S, V)
  std::int64_t row;
  std::uint32_t vocabulary;
};

// Lower is better.
__device__ __forceinline__ Bits order_of(double logit) {
  const Bits bits = static_cast<Bits>(__double_as_longlong(logit));
  return bits >> 63 != 0 ? bits : ~bits & (kLast >> 1);
}

// The same of a logit as it is.
__device__ __forceinline__ std::uint32_t order_of(float logit) {
  const std::uint32_t bits = __float_as_uint(logit == 0 ? 0.0F : logit);  // -0 equals 0
  return bits >> 31 != 0 ? bits : ~bits & 0x7fffffffU;
}

// A place in the row's order: equal logits by id.
struct Place {
  Bits order, id;
};

template <int kCount>
struct Minima {
  Bits of[kCount];
};

struct Shared {
  Bits warps[kWarps][4], block[4];
  Bits mass[kBins];
  Bits bin, before, total;  // of the bin chosen last: which, the mass before it, the mass of all
};

// The least of each over all threads of the cluster.
template <int kCount>
__device__ Minima<kCount> least_of(Shared& shared, Minima<kCount> x) {
  auto cluster = groups::this_cluster();
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
      x.of[i] = min(x.of[i], __shfl_xor_sync(0xffffffffU, x.of[i], step));
    if (threadIdx.x % 32 == 0) shared.warps[threadIdx.x / 32][i] = x.of[i];
  }
  __syncthreads();
  if (threadIdx.x < kCount) {
    Bits least = kLast;
    for (int w = 0; w < kWarps; ++w) least = min(least, shared.warps[w][threadIdx.x]);
    shared.block[threadIdx.x] = least;
  }
  cluster.sync();
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    x.of[i] = kLast;
    for (int b = 0; b < kBlocks; ++b) x.of[i] = min(x.of[i], cluster.map_shared_rank(shared.block, b)[i]);
  }
  cluster.sync();  // the memory may be written again
  return x;
}

// Calls f(id, value, weight) for this thread's tokens, always the same; past the row's end with -infinity.
template <class F>
__device__ __forceinline__ void for_tokens(const double* values, const Bits* weights, std::uint32_t count,
                                           F&& f) {
  const std::uint32_t first = blockIdx.x % kBlocks * kThreads + threadIdx.x;
  for (std::uint32_t begin = 0; begin < count; begin += kAtOnce * kStep) {
    double value[kAtOnce];
    Bits weight[kAtOnce];
#pragma unroll
    for (std::uint32_t i = 0; i < kAtOnce; ++i) {
      const std::uint32_t id = begin + i * kStep + first;
      value[i] = id < count ? values[id] : -INFINITY;
      weight[i] = weights != nullptr && id < count ? weights[id] : 0;
    }
#pragma unroll
    for (std::uint32_t i = 0; i < kAtOnce; ++i) f(begin + i * kStep + first, value[i], weight[i]);
  }
}

// Adds to a bin (negative: none). A warp that agrees on the bin adds once.
__device__ __forceinline__ void add_mass(Shared& shared, int bin, Bits mass) {
  int same = 0;
  __match_all_sync(0xffffffffU, bin, &same);
  if (same != 0) {
    if (bin < 0) return;
#pragma unroll
    for (int step = 16; step > 0; step /= 2) mass += __shfl_xor_sync(0xffffffffU, mass, step);
    if (threadIdx.x % 32 == 0) atomicAdd(&shared.mass[bin], mass);
  } else if (bin >= 0) {
    atomicAdd(&shared.mass[bin], mass);
  }
}

// Joins the blocks' bins and finds the first at which the mass, summed from bin 0 on, exceeds target_of(mass
// of all bins); bin kBins where it never does.
template <class Target>
__device__ void choose_bin(Shared& shared, Target&& target_of) {
  auto cluster = groups::this_cluster();
  constexpr int kPerLane = kBins / 32;
  cluster.sync();
  if (threadIdx.x < 32) {
    const int lane = static_cast<int>(threadIdx.x);
    Bits mass[kPerLane], sum = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      mass[i] = 0;
      for (int b = 0; b < kBlocks; ++b)
        mass[i] += cluster.map_shared_rank(shared.mass, b)[lane * kPerLane + i];
      sum += mass[i];
    }
    Bits up_to = sum;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const Bits other = __shfl_up_sync(0xffffffffU, up_to, step);
      if (lane >= step) up_to += other;
    }
    const Bits total = __shfl_sync(0xffffffffU, up_to, 31);
    const Bits target = target_of(total);
    Bits before = up_to - sum;
    if (target >= total) {
      if (lane == 0) shared.bin = kBins, shared.before = 0, shared.total = total;
    } else if (target >= before && target < up_to) {
      int i = 0;
      while (i + 1 < kPerLane && target >= before + mass[i]) before += mass[i++];
      shared.bin = lane * kPerLane + i, shared.before = before, shared.total = total;
    }
  }
  cluster.sync();  // chosen in every block; bins may be cleared
}

__device__ __forceinline__ void clear_bins(Shared& shared) {
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < kBins; b += kThreads) shared.mass[b] = 0;
  __syncthreads();
}

// One sequence's tokens and what the filters left of them.
struct Row {
  Shared& shared;
  const double* values;
  const Bits* weights;
  std::uint32_t count;
  double best;
  Place last{kLast, kLast};  // the last token that top-k or top-p keeps
  double least = 0;          // weight

  __device__ bool kept(Bits order, Bits id, double value, Bits weight) const {
    return value > -INFINITY && (order < last.order || (order == last.order && id <= last.id)) &&
           static_cast<double>(weight) >= least;
  }

  // The first kept token at which the mass, summed best first, exceeds target_of(mass of all kept); behind
  // every token where it never does. mass_of(weight) is each token's.
  template <class Mass, class Target>
  __device__ Place find(Mass&& mass_of, Target&& target_of) const {
    const auto coarse = [&](double value) {
      return static_cast<Bits>(min(__double2int_rz((best - value) * kCoarseBins), kBins - 1));
    };
    clear_bins(shared);
    for_tokens(values, weights, count, [&](std::uint32_t id, double value, Bits weight) {
      const bool in = kept(order_of(value), id, value, weight);
      add_mass(shared, in ? static_cast<int>(coarse(value)) : -1, in ? mass_of(weight) : 0);
    });
    Bits target = 0;
    choose_bin(shared, [&](Bits total) { return target_of(total); });
    const Bits start = shared.bin;
    if (start == kBins) return {kLast, kLast};
    target = target_of(shared.total) - shared.before;

    Place low{0, 0}, high{kLast, kLast};  // bounds of order and of id
    for (;;) {
      // Tokens without mass are passed over, so the place is always one that has some.
      const auto wanted = [&](std::uint32_t id, double value, Bits weight) {
        const Bits order = order_of(value);
        return kept(order, id, value, weight) && mass_of(weight) > 0 && coarse(value) == start &&
               order >= low.order && order <= high.order && id >= low.id && id <= high.id;
      };
      Minima<4> bounds{{kLast, kLast, kLast, kLast}};
      for_tokens(values, weights, count, [&](std::uint32_t id, double value, Bits weight) {
        if (!wanted(id, value, weight)) return;
        const Bits order = order_of(value);
        bounds.of[0] = min(bounds.of[0], order), bounds.of[1] = min(bounds.of[1], ~order);
        bounds.of[2] = min(bounds.of[2], Bits{id}), bounds.of[3] = min(bounds.of[3], ~Bits{id});
      });
      bounds = least_of(shared, bounds);
      low = {bounds.of[0], bounds.of[2]}, high = {~bounds.of[1], ~bounds.of[3]};
      const bool tied = low.order == high.order;
      if (tied && low.id == high.id) return low;

      Bits &from = tied ? low.id : low.order, &to = tied ? high.id : high.order;
      const int bits = 64 - __clzll(static_cast<long long>(to - from)), shift = max(bits - 8, 0);
      clear_bins(shared);
      for_tokens(values, weights, count, [&](std::uint32_t id, double value, Bits weight) {
        const bool in = wanted(id, value, weight);
        const Bits at = tied ? Bits{id} : order_of(value);
        add_mass(shared, in ? static_cast<int>((at - from) >> shift) : -1, in ? mass_of(weight) : 0);
      });
      choose_bin(shared, [&](Bits) { return target; });
      target -= shared.before;
      from += shared.bin << shift;
      to = min(to, from + ((Bits{1} << shift) - 1));
    }
  }
};

__device__ __forceinline__ Bits weight_mass(Bits weight) { return weight; }

// Fills the row with logits and penalties. Returns whether all are numbers.
__device__ bool penalize(Shared& shared, const Arguments& a, std::int64_t s, double* values) {
  const float* logits = a.logits + s * a.row;
  const double penalty = a.repetition_penalty[s];
  Minima<1> good{{1}};
  for (std::uint32_t id = blockIdx.x % kBlocks * kThreads + threadIdx.x; id < a.vocabulary; id += kStep) {
    const float x = logits[id];
    if (!(x < INFINITY)) good.of[0] = 0;
    values[id] = x == 0 ? 0.0 : x;  // -0 equals 0
  }
  if (least_of(shared, good).of[0] == 0) return false;
  if (penalty == 1) return true;
  const std::int32_t end = a.seen_offsets[s + 1];
  const auto mine = static_cast<std::int32_t>(blockIdx.x % kBlocks * kThreads + threadIdx.x);
  for (std::int32_t i = a.seen_offsets[s] + mine; i < end; i += static_cast<std::int32_t>(kStep)) {
    const std::int32_t id = a.seen[i];
    if (id < 0 || static_cast<std::uint32_t>(id) >= a.vocabulary) continue;
    const double x = logits[id], y = x > 0 ? x / penalty : x * penalty;
    values[id] = y == 0 ? 0.0 : y;
  }
  groups::this_cluster().sync();
  return true;
}

// Greedy without a penalty: one look at the logits.
__device__ std::int32_t best_of(Shared& shared, const Arguments& a, std::int64_t s) {
  constexpr std::uint32_t kLoads = 8;
  const float* logits = a.logits + s * a.row;
  const std::uint32_t first = blockIdx.x % kBlocks * kThreads + threadIdx.x;
  // The first: a logit's order, then its id; the second: whether all are numbers.
  Minima<2> least{{kLast, 1}};
  for (std::uint32_t begin = first; begin < a.vocabulary; begin += kLoads * kStep) {
    float x[kLoads];
#pragma unroll
    for (std::uint32_t i = 0; i < kLoads; ++i) {
      const std::uint32_t id = begin + i * kStep;
      x[i] = id < a.vocabulary ? logits[id] : -INFINITY;
    }
#pragma unroll
    for (std::uint32_t i = 0; i < kLoads; ++i) {
      if (!(x[i] < INFINITY)) least.of[1] = 0;
      least.of[0] = min(least.of[0], Bits{order_of(x[i])} << 32 | (begin + i * kStep));
    }
  }
  least = least_of(shared, least);
  if (least.of[1] == 0) return ops::kNotANumber;
  if (least.of[0] >> 32 == Bits{order_of(-float{INFINITY})}) return ops::kAllImpossible;
  return static_cast<std::int32_t>(least.of[0] & 0xffffffffU);
}

__device__ std::int32_t draw(Shared& shared, const Arguments& a, std::int64_t s) {
  if (a.temperature[s] == 0 && a.repetition_penalty[s] == 1) return best_of(shared, a, s);
  double* values = a.values + s * a.vocabulary;
  Bits* weights = a.weights + s * a.vocabulary;
  const std::uint32_t count = a.vocabulary;
  if (!penalize(shared, a, s, values)) return ops::kNotANumber;

  Minima<1> best{{kLast}};
  for_tokens(values, nullptr, count,
             [&](std::uint32_t, double value, Bits) { best.of[0] = min(best.of[0], order_of(value)); });
  const Bits best_order = least_of(shared, best).of[0];
  if (best_order == order_of(-double{INFINITY})) return ops::kAllImpossible;
  Minima<1> best_id{{kLast}};
  for_tokens(values, nullptr, count, [&](std::uint32_t id, double value, Bits) {
    if (order_of(value) == best_order) best_id.of[0] = min(best_id.of[0], Bits{id});
  });
  const auto id = static_cast<std::uint32_t>(least_of(shared, best_id).of[0]);
  const double temperature = a.temperature[s], best_value = values[id];
  if (temperature == 0) return static_cast<std::int32_t>(id);

  const std::uint32_t first = blockIdx.x % kBlocks * kThreads + threadIdx.x;
  for (std::uint32_t i = first; i < count; i += kStep) {
    weights[i] = __double2ull_rn(exp((values[i] - best_value) / temperature) * kOne);
  }
  Row row{shared, values, weights, count, best_value};
  if (const std::int64_t k = a.top_k[s]; k > 0) {
    const Place last = row.find([](Bits) { return Bits{1}; }, [&](Bits) { return static_cast<Bits>(k - 1); });
    row.last = {last.order, kLast};  // and those equal to it
  }
  if (const double p = a.top_p[s]; p < 1) {
    row.last = row.find(weight_mass, [&](Bits total) {
      const auto enough = static_cast<Bits>(ceil(p * static_cast<double>(total)));
      return min(max(enough, Bits{1}), total) - 1;
    });
  }
  row.least = a.min_p[s] * kOne;
  const double uniform = a.uniform[s];
  const Place drawn = row.find(weight_mass, [&](Bits total) {
    return min(static_cast<Bits>(uniform * static_cast<double>(total)), total - 1);
  });
  return static_cast<std::int32_t>(drawn.id);
}

__global__ void __cluster_dims__(kBlocks, 1, 1) __launch_bounds__(kThreads) sampling_kernel(Arguments a) {
  __shared__ Shared shared;
  const std::int64_t s = blockIdx.x / kBlocks;
  const std::int32_t id = draw(shared, a, s);
  if (blockIdx.x % kBlocks == 0 && threadIdx.x == 0) a.ids[s] = id;
  groups::this_cluster().sync();  // no block leaves while another reads its memory
}

struct Scratch {
  Tensor values, weights;
};
Scratch make_scratch(Context& ctx, const Tensor& ids, std::int64_t vocabulary) {
  const Shape shape{ids.shape[0], vocabulary};
  return {ctx.scratch->make(DType::f64, shape), ctx.scratch->make(DType::i64, shape)};
}

}  // namespace

void sampling(Context& ctx, Tensor ids, ops::SamplingInputs in, ops::SamplingOptions options) {
  if (ids.count() == 0) return;
  const Arena::Scope scope(*ctx.scratch);
  const Scratch scratch = make_scratch(ctx, ids, options.vocabulary);
  const Arguments arguments{.ids = pointer<std::int32_t>(ids),
                            .logits = pointer<float>(in.logits),
                            .uniform = pointer<double>(in.uniform),
                            .temperature = pointer<double>(in.temperature),
                            .top_p = pointer<double>(in.top_p),
                            .min_p = pointer<double>(in.min_p),
                            .repetition_penalty = pointer<double>(in.repetition_penalty),
                            .top_k = pointer<std::int64_t>(in.top_k),
                            .seen = pointer<std::int32_t>(in.seen),
                            .seen_offsets = pointer<std::int32_t>(in.seen_segments.offsets),
                            .values = pointer<double>(scratch.values),
                            .weights = pointer<Bits>(scratch.weights),
                            .row = in.logits.shape[1],
                            .vocabulary = static_cast<std::uint32_t>(options.vocabulary)};
  sampling_kernel<<<static_cast<unsigned>(ids.count() * kBlocks), kThreads, 0, stream_of(ctx)>>>(arguments);
  check_launch("sampling");
}

void scratch::sampling(Context& ctx, Tensor ids, ops::SamplingInputs, ops::SamplingOptions options) {
  if (ids.count() == 0) return;
  const Arena::Scope scope(*ctx.scratch);
  make_scratch(ctx, ids, options.vocabulary);
}

}  // namespace braid::cuda
