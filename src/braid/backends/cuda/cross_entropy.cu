#include <cuda_pipeline.h>

#include <cfloat>

#include "braid/backends/cuda/device/approximate.cuh"
#include "braid/backends/cuda/device/elements.cuh"
#include "braid/backends/cuda/device/store_whole.cuh"
#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 1024, kWarps = kThreads / 32;

template <class T>
struct Arguments {
  float *loss, *log_sum_exp;
  T* logits;
  const std::int32_t* targets;
  const float* weights;  // null: all 1
  std::int64_t rows, width;
  const double* scale;  // null: 1
  float z_loss;
  bool gradient;
};

// Σ e^(x - top) over what was seen so far. It starts from a finite top, since -inf less itself is not a
// number.
struct ExpSum {
  float top = -FLT_MAX, sum = 0;

  __device__ __forceinline__ void raise(float to) {
    sum *= fast_exp(top - to);
    top = to;
  }
  template <class T, int kP>
  __device__ __forceinline__ void add(const Elements<T, kP>& x) {
    float most = x[0];
#pragma unroll
    for (int i = 1; i < kP; ++i) most = fmaxf(most, x[i]);
    if (most > top) raise(most);
#pragma unroll
    for (int i = 0; i < kP; ++i) sum += fast_exp(x[i] - top);
  }
};

// Over all lanes of a warp, the same bits in each.
__device__ __forceinline__ ExpSum warp_total(ExpSum mine) {
  mine.raise(warp_max(mine.top));
  mine.sum = warp_sum(mine.sum);
  return mine;
}
// (top, sum) of each warp.
using WarpTotals = float2[kWarps];

// Over a block. One barrier: a `shared` may serve again after the next one.
__device__ __forceinline__ ExpSum block_total(ExpSum mine, WarpTotals& shared) {
  mine = warp_total(mine);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = make_float2(mine.top, mine.sum);
  __syncthreads();
  const float2 one = shared[threadIdx.x % 32];
  return warp_total({one.x, one.y});
}

// Writes loss and log_sum_exp of one row; `at_target` is its logit.
template <class T>
__device__ __forceinline__ void finish(const Arguments<T>& a, std::int64_t row, const ExpSum& total,
                                       float at_target) {
  const float log_sum = logf(total.sum);
  a.log_sum_exp[row] = total.top + log_sum;
  a.loss[row] = total.top - at_target + log_sum;  // the difference first: it is exact where it matters
}

// The gradient of one row's logits.
struct Slope {
  float top, factor, scale;
  std::int32_t target;

  template <class T>
  __device__ __forceinline__ Slope(const Arguments<T>& a, const ExpSum& total, std::int64_t row,
                                   std::int32_t of)
      : top(total.top), scale(a.scale != nullptr ? static_cast<float>(*a.scale) : 1.0F), target(of) {
    if (a.weights != nullptr) scale *= a.weights[row];
    factor = scale * (1.0F + 2.0F * a.z_loss * (total.top + logf(total.sum))) / total.sum;
  }
  template <class T, int kP>
  __device__ __forceinline__ Elements<T, kP> of(const Elements<T, kP>& x, int first) const {
    Elements<T, kP> d;
#pragma unroll
    for (int i = 0; i < kP; ++i) {
      const float p = fast_exp(x[i] - top) * factor;
      d.set(i, first + i == target ? p - scale : p);
    }
    return d;
  }
};

// Logit of the target, or NaN where there is none of that number: the host cannot check, the loss will show
// it.
template <class T>
__device__ __forceinline__ float target_logit(const Arguments<T>& a, const T* row, std::int32_t target) {
  return target < a.width ? to_float(row[target]) : __int_as_float(0x7fffffff);
}

// Reads each row twice where a gradient is wanted.
template <class T, int kP>
__global__ void __launch_bounds__(kThreads, 1) two_pass_kernel(const Arguments<T> a) {
  __shared__ WarpTotals shared[2];
  const int width = static_cast<int>(a.width);
  int turn = 0;
  for (std::int64_t r = blockIdx.x; r < a.rows; r += gridDim.x) {
    T* row = a.logits + r * a.width;
    const std::int32_t target = a.targets[r];
    if (target < 0) {
      if (threadIdx.x == 0) a.loss[r] = a.log_sum_exp[r] = 0;
      for (int i = static_cast<int>(threadIdx.x) * kP; a.gradient && i < width; i += kThreads * kP) {
        store_whole<kP>(row + i, Elements<T, kP>{});
      }
      continue;
    }
    const float at_target = threadIdx.x == 0 ? target_logit(a, row, target) : 0;
    ExpSum mine;
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x) * kP; i < width; i += kThreads * kP)
      mine.add(load<kP>(row + i));
    const ExpSum total = block_total(mine, shared[turn]);
    turn ^= 1;
    if (threadIdx.x == 0) finish(a, r, total, at_target);
    if (!a.gradient) continue;
    const Slope slope(a, total, r, target);
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x) * kP; i < width; i += kThreads * kP) {
      store_whole<kP>(row + i, slope.of(load<kP>(row + i), i));
    }
  }
}

// The same for rows that fit in shared memory: each is read once, and the next comes in while this one's
// gradient goes out. Every vector of `kept` is written and read by one thread alone.
template <class T>
__global__ void __launch_bounds__(kThreads, 1) kept_row_kernel(const Arguments<T> a) {
  constexpr int kP = Pack<T>::kSize;
  extern __shared__ __align__(16) unsigned char dynamic[];
  __shared__ WarpTotals shared[2];
  T* kept = reinterpret_cast<T*>(dynamic);
  const int width = static_cast<int>(a.width), first = static_cast<int>(threadIdx.x) * kP;
  const auto fetch = [&](std::int64_t r, int i) {
    if (r < a.rows) __pipeline_memcpy_async(kept + i, a.logits + r * a.width + i, 16);
  };
  for (int i = first; i < width; i += kThreads * kP) fetch(blockIdx.x, i);
  int turn = 0;
  for (std::int64_t r = blockIdx.x; r < a.rows; r += gridDim.x) {
    T* row = a.logits + r * a.width;
    const std::int32_t target = a.targets[r];
    const float at_target = threadIdx.x == 0 && target >= 0 ? target_logit(a, row, target) : 0;
    __pipeline_commit();
    __pipeline_wait_prior(0);
    if (target < 0) {
      if (threadIdx.x == 0) a.loss[r] = a.log_sum_exp[r] = 0;
      for (int i = first; i < width; i += kThreads * kP) {
        fetch(r + gridDim.x, i);
        store_whole<kP>(row + i, Elements<T, kP>{});
      }
      continue;
    }
    ExpSum mine;
#pragma unroll 2
    for (int i = first; i < width; i += kThreads * kP) mine.add(load<kP>(kept + i));
    const ExpSum total =
        block_total(mine, shared[turn]);  // and at_target is read before any gradient is written
    turn ^= 1;
    if (threadIdx.x == 0) finish(a, r, total, at_target);
    const Slope slope(a, total, r, target);
#pragma unroll 2
    for (int i = first; i < width; i += kThreads * kP) {
      const auto gradient = slope.of(load<kP>(kept + i), i);
      fetch(r + gridDim.x, i);
      store_whole<kP>(row + i, gradient);
    }
  }
}

// A warp to a row of a small vocabulary, whose logits it keeps.
constexpr int kNarrowWarps = 8, kNarrowRuns = 4;
template <class T, int kP>
constexpr std::int64_t kNarrowWidth = 32 * kNarrowRuns* kP;

template <class T, int kP>
__global__ void __launch_bounds__(32 * kNarrowWarps) narrow_kernel(const Arguments<T> a) {
  const std::int64_t r = std::int64_t{blockIdx.x} * kNarrowWarps + threadIdx.x / 32;
  if (r >= a.rows) return;
  const int width = static_cast<int>(a.width), lane = static_cast<int>(threadIdx.x) % 32;
  T* row = a.logits + r * a.width;
  const std::int32_t target = a.targets[r];
  const auto for_runs = [&](auto&& f) {
#pragma unroll
    for (int run = 0; run < kNarrowRuns; ++run) {
      const int first = (run * 32 + lane) * kP;
      if (first < width) f(run, first);
    }
  };
  if (target < 0) {
    if (lane == 0) a.loss[r] = a.log_sum_exp[r] = 0;
    if (a.gradient) for_runs([&](int, int first) { store_whole<kP>(row + first, Elements<T, kP>{}); });
    return;
  }
  Elements<T, kP> kept[kNarrowRuns];
  ExpSum mine;
  for_runs([&](int run, int first) {
    kept[run] = load<kP>(row + first);
    mine.add(kept[run]);
  });
  const ExpSum total = warp_total(mine);
  if (lane == 0) finish(a, r, total, target_logit(a, row, target));
  if (!a.gradient) return;
  __syncwarp();  // the target's logit is read
  const Slope slope(a, total, r, target);
  for_runs([&](int run, int first) { store_whole<kP>(row + first, slope.of(kept[run], first)); });
}

template <class T, int kP>
void launch_narrow(Context& ctx, const Arguments<T>& a) {
  narrow_kernel<T, kP>
      <<<static_cast<unsigned>(ceil_div(a.rows, kNarrowWarps)), 32 * kNarrowWarps, 0, stream_of(ctx)>>>(a);
  check_launch("cross_entropy");
}

template <class T>
void launch(Context& ctx, void (*kernel)(Arguments<T>), const Arguments<T>& a, std::size_t kept_bytes) {
  // One block on a multiprocessor: more rows at a time would not stay in the second-level cache.
  const unsigned blocks = grid_for(ctx, a.rows, 1, 1);
  if (kept_bytes > 0) {
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(kept_bytes)),
               "cross_entropy");
  }
  kernel<<<blocks, kThreads, kept_bytes, stream_of(ctx)>>>(a);
  check_launch("cross_entropy");
}

}  // namespace

void cross_entropy(Context& ctx, Tensor loss, Tensor log_sum_exp, Tensor logits, ConstTensor targets,
                   ConstTensor weights, ops::CrossEntropyOptions options) {
  if (logits.count() == 0) return;
  visit_activation("cross_entropy", logits.dtype, [&]<class T>() {
    constexpr int kP = Pack<T>::kSize;
    constexpr std::size_t kShared = 2 * sizeof(WarpTotals);
    const Arguments<T> a{.loss = pointer<float>(loss),
                         .log_sum_exp = pointer<float>(log_sum_exp),
                         .logits = pointer<T>(logits),
                         .targets = pointer<std::int32_t>(targets),
                         .weights = weights.defined() ? pointer<float>(weights) : nullptr,
                         .rows = logits.shape[0],
                         .width = logits.shape[1],
                         .scale = pointer<double>(options.scale),
                         .z_loss = static_cast<float>(options.z_loss),
                         .gradient = options.gradient == ops::LossGradient::yes};
    const std::size_t row_bytes = static_cast<std::size_t>(a.width) * sizeof(T);
    if (a.width % kP != 0 && a.width <= kNarrowWidth<T, 1>) {
      launch_narrow<T, 1>(ctx, a);
    } else if (a.width % kP == 0 && a.width <= kNarrowWidth<T, kP>) {
      launch_narrow<T, kP>(ctx, a);
    } else if (a.width % kP != 0) {
      launch(ctx, two_pass_kernel<T, 1>, a, 0);
    } else if (a.gradient && row_bytes + kShared <= state_of(ctx).shared_bytes) {
      launch(ctx, kept_row_kernel<T>, a, row_bytes);
    } else {
      launch(ctx, two_pass_kernel<T, kP>, a, 0);
    }
  });
}

}  // namespace braid::cuda
