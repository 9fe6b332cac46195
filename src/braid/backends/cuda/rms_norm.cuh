// The kernels of both norms: a row is read once and stays in the registers of the threads that share it.
#pragma once
#include "braid/backends/cuda/column_sums.h"
#include "braid/backends/cuda/device/cache_policy.cuh"
#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/elements.cuh"
#include "braid/backends/cuda/device/swiglu.cuh"

namespace braid::cuda::rms {

// kGroup threads share a row, each with kItems runs of kN elements: element (item · kGroup + lane) · kN + i.
template <class Element, int kElements, int kThreadsOfRow, int kRuns>
struct Layout {
  using T = Element;
  static constexpr int kN = kElements, kGroup = kThreadsOfRow, kItems = kRuns;
  static constexpr int kThreads = kGroup < 256 ? 256 : kGroup;
  static constexpr int kRows = kThreads / kGroup;  // of a block, at once
  // Blocks of backward on a multiprocessor: a thread keeps kItems · kN sums besides its part of the row, so
  // that 80 registers each are wanted where the group allows them.
  static constexpr int kResident = kThreads == 256 ? 3 : 1024 / kThreads;
  // Whether backward has registers to fetch a thread's next row while it works on one.
  static constexpr bool kAhead = kItems == 1 && kThreads == 256;
};

// Calls f.template operator()<Layout>() with the narrowest layout that holds a row.
template <class T, class F>
void visit_layout(const char* op, std::int64_t width, F&& f) {
  constexpr int kN = 16 / sizeof(T);
  require(width <= 16384, "{}: width {} is not supported on cuda: at most 16384", op, width);
  if (width % kN == 0) {
    const auto packs = width / kN;
    // The delta rule's value heads: 128 and 192 wide.
    if (width <= 128) return f.template operator()<Layout<T, kN, 128 / kN, 1>>();
    if (width <= 192) return f.template operator()<Layout<T, 4, 16, 3>>();
    if (packs <= 32) return f.template operator()<Layout<T, kN, 32, 1>>();
    if (packs <= 64) return f.template operator()<Layout<T, kN, 32, 2>>();
    if (packs <= 128) return f.template operator()<Layout<T, kN, 64, 2>>();
    if (packs <= 512) return f.template operator()<Layout<T, kN, 256, 2>>();
    if (packs <= 1024) return f.template operator()<Layout<T, kN, 512, 2>>();
    if (packs <= 2048) return f.template operator()<Layout<T, kN, 1024, 2>>();
    if constexpr (sizeof(T) == 4) return f.template operator()<Layout<T, kN, 1024, 4>>();
  }
  if (width <= 128) return f.template operator()<Layout<T, 1, 32, 4>>();
  if (width <= 1024) return f.template operator()<Layout<T, 1, 256, 4>>();
  return f.template operator()<Layout<T, 1, 1024, 16>>();
}

// Where a thread stands.
template <class L>
struct Place {
  int lane = static_cast<int>(threadIdx.x) % L::kGroup;
  int group = static_cast<int>(threadIdx.x) / L::kGroup;
  __device__ __forceinline__ int column(int item) const { return (item * L::kGroup + lane) * L::kN; }
};

template <class T>
struct Forward {
  T* y;
  float* inverse_rms;
  const T *x, *gate, *addend;  // addend: null for none
  const float* weight;
  std::int64_t rows;
  int width;
  float epsilon;
  bool ahead;  // the weight may be read before the kernel's turn
};

template <class L, bool kGated>
__global__ void __launch_bounds__(L::kThreads) forward_kernel(Forward<typename L::T> p) {
  __shared__ float shared[L::kThreads / 32];
  const Place<L> place;
  const std::int64_t row = std::int64_t{blockIdx.x} * L::kRows + place.group, at = row * p.width;
  const int width = row < p.rows ? p.width : 0;  // rows past the end have no columns
  begin_early(p.ahead);
  // Behind the wait, what must come from far waits for all that the next product fetches ahead.
  Elements<float, L::kN> weight[L::kItems];
#pragma unroll
  for (int i = 0; i < L::kItems; ++i) {
    const int c = place.column(i);
    if (c < width) weight[i] = load_constant<L::kN>(p.weight + c);
    if (c < width && p.ahead && p.addend != nullptr) keep_in_l2(p.addend + at + c);
  }
  if (p.ahead) wait_for_earlier();
  Elements<typename L::T, L::kN> x[L::kItems], gate[L::kItems];
#pragma unroll
  for (int i = 0; i < L::kItems; ++i) {
    const int c = place.column(i);
    if (c < width) x[i] = load<L::kN>(p.x + at + c);
    if constexpr (kGated) {
      if (c < width) gate[i] = load<L::kN>(p.gate + at + c);
    }
  }
  float squares = 0;
#pragma unroll
  for (int i = 0; i < L::kItems; ++i) {
    if (place.column(i) >= width) continue;
#pragma unroll
    for (int j = 0; j < L::kN; ++j) squares = fmaf(x[i][j], x[i][j], squares);
  }
  const float mean = group_sum<L::kGroup>(squares, shared) / static_cast<float>(p.width);
  const float r = 1.0F / sqrtf(mean + p.epsilon);
  if (place.lane == 0 && row < p.rows) p.inverse_rms[row] = r;
#pragma unroll
  for (int i = 0; i < L::kItems; ++i) {
    const int c = place.column(i);
    if (c >= width) continue;
    Elements<typename L::T, L::kN> y, before{};
    if (p.addend != nullptr) before = load<L::kN>(p.addend + at + c);
#pragma unroll
    for (int j = 0; j < L::kN; ++j) {
      float normed = x[i][j] * r * weight[i][j];
      if constexpr (kGated) normed *= gate[i][j] * fast_sigmoid(gate[i][j]);  // decoding's mixer divides
      y.set(j, p.addend != nullptr ? before[j] + normed : normed);
    }
    store(p.y + at + c, y);
  }
}

template <class T>
struct Backward {
  T *dx, *dgate;
  float* sums;  // (blocks, width): each block's part of dweight
  const T *dy, *x, *gate;
  const float *weight, *inverse_rms;
  std::int64_t rows;
  int width;
};

// Adds the groups' sums in order and leaves them as row blockIdx.x.
template <class L>
__device__ __forceinline__ void store_sums(float* sums, int width, const float (&dweight)[L::kItems][L::kN]) {
  const Place<L> place;
  __shared__ float total[L::kRows > 1 ? L::kItems * L::kN : 1][L::kGroup];
  for (int g = 0; g < L::kRows; ++g) {
    if (place.group == g) {
#pragma unroll
      for (int i = 0; i < L::kItems; ++i) {
#pragma unroll
        for (int j = 0; j < L::kN; ++j) {
          const int c = place.column(i) + j, slot = L::kRows > 1 ? i * L::kN + j : 0;
          const float sum = g == 0 ? dweight[i][j] : total[slot][place.lane] + dweight[i][j];
          if (g + 1 < L::kRows) total[slot][place.lane] = sum;
          if (g + 1 == L::kRows && c < width) sums[std::int64_t{blockIdx.x} * width + c] = sum;
        }
      }
    }
    __syncthreads();
  }
}

// What backward reads of a row; nothing of rows past the end.
template <class L, bool kGated, bool kAdd>
struct BackwardRow {
  using Run = Elements<typename L::T, L::kN>;
  Run x[L::kItems], dy[L::kItems], gate[L::kItems], before[L::kItems];
  float inverse_rms;

  __device__ __forceinline__ void load_row(const Backward<typename L::T>& p, std::int64_t row) {
    const Place<L> place;
    const std::int64_t at = row * p.width;
    const int width = row < p.rows ? p.width : 0;
#pragma unroll
    for (int i = 0; i < L::kItems; ++i) {
      const int c = place.column(i);
      if (c >= width) continue;
      x[i] = load<L::kN>(p.x + at + c);
      dy[i] = load<L::kN>(p.dy + at + c);
      if constexpr (kGated) gate[i] = load<L::kN>(p.gate + at + c);
      if constexpr (kAdd) before[i] = load<L::kN>(p.dx + at + c);
    }
    inverse_rms = row < p.rows ? p.inverse_rms[row] : 0;
  }
};

// With x̂ = x r and e = dy (· silu(gate)): dx = r (w e − x̂ mean(w e x̂)), dweight = Σ e x̂, dgate = dy x̂ w
// silu'(gate).
template <class L, bool kGated, bool kAdd>
__global__ void __launch_bounds__(L::kThreads, L::kResident) backward_kernel(Backward<typename L::T> p) {
  using Run = Elements<typename L::T, L::kN>;
  __shared__ float shared[L::kThreads / 32];
  const Place<L> place;
  const std::int64_t begin = std::int64_t{blockIdx.x} * L::kRows, step = std::int64_t{gridDim.x} * L::kRows;
  float dweight[L::kItems][L::kN] = {};
  BackwardRow<L, kGated, kAdd> in, next;
  if constexpr (L::kAhead) next.load_row(p, begin + place.group);
  for (std::int64_t first = begin; first < p.rows; first += step) {
    const std::int64_t row = first + place.group, at = row * p.width;
    const int width = row < p.rows ? p.width : 0;
    if constexpr (L::kAhead) {
      in = next;
      next.load_row(p, row + step);
    } else {
      in.load_row(p, row);
    }
    const float r = in.inverse_rms;
    float we[L::kItems][L::kN], dot = 0;
#pragma unroll
    for (int i = 0; i < L::kItems; ++i) {
      const int c = place.column(i);
      if (c >= width) continue;
      const auto weight = load_constant<L::kN>(p.weight + c);
      Run dgate;
#pragma unroll
      for (int j = 0; j < L::kN; ++j) {
        const float normed = in.x[i][j] * r;
        float e = in.dy[i][j];
        if constexpr (kGated) {
          const float g = in.gate[i][j], s = fast_sigmoid(g), silu = g * s;
          dgate.set(j, e * normed * weight[j] * silu_slope(silu, s));
          e *= silu;
        }
        dweight[i][j] = fmaf(e, normed, dweight[i][j]);
        we[i][j] = e * weight[j];
        dot = fmaf(we[i][j], in.x[i][j], dot);
      }
      if constexpr (kGated) store(p.dgate + at + c, dgate);
    }
    const float mean = group_sum<L::kGroup>(dot, shared) * r * r / static_cast<float>(p.width);
#pragma unroll
    for (int i = 0; i < L::kItems; ++i) {
      const int c = place.column(i);
      if (c >= width) continue;
      if constexpr (!kGated) {  // cheaper than keeping the products
        const auto weight = load_constant<L::kN>(p.weight + c);
#pragma unroll
        for (int j = 0; j < L::kN; ++j) we[i][j] = in.dy[i][j] * weight[j];
      }
      Run dx;
#pragma unroll
      for (int j = 0; j < L::kN; ++j) {
        const float d = r * fmaf(-in.x[i][j], mean, we[i][j]);
        dx.set(j, kAdd ? in.before[i][j] + d : d);
      }
      store(p.dx + at + c, dx);
    }
  }
  store_sums<L>(p.sums, p.width, dweight);
}

template <bool kGated, class T>
void launch_forward(Context& ctx, const char* op, const Forward<T>& arguments) {
  visit_layout<T>(op, arguments.width, [&]<class L>() {
    const auto blocks = static_cast<unsigned>(ceil_div(arguments.rows, L::kRows));
    launch_early(ctx, op, forward_kernel<L, kGated>,
                 {.grid = dim3(blocks), .threads = L::kThreads, .rows = kGated ? 0 : arguments.rows},
                 arguments);
  });
}

template <bool kGated, bool kAdd, class T>
void launch_backward(Context& ctx, const char* op, const Backward<T>& arguments, std::int64_t blocks) {
  visit_layout<T>(op, arguments.width, [&]<class L>() {
    backward_kernel<L, kGated, kAdd>
        <<<static_cast<unsigned>(blocks), L::kThreads, 0, stream_of(ctx)>>>(arguments);
  });
  check_launch(op);
}

// (blocks, C): one row of dweight for each block of the backward kernel.
inline Tensor make_backward_scratch(Context& ctx, const char* op, const ConstTensor& x) {
  std::int64_t blocks = 0;
  visit_activation(op, x.dtype, [&]<class T>() {
    visit_layout<T>(op, x.shape[1], [&]<class L>() {
      const std::int64_t most = std::int64_t{L::kResident} * state_of(ctx).multiprocessors;
      blocks = std::min(ceil_div(x.shape[0], L::kRows), most);
    });
  });
  return ctx.scratch->make(DType::f32, {blocks, x.shape[1]});
}

}  // namespace braid::cuda::rms
