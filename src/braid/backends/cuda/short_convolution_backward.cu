#include "braid/backends/cuda/column_sums.h"
#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/short_convolution.cuh"

namespace braid::cuda {
namespace {

using namespace convolution;

constexpr int kStrands = kThreads / 32;  // warps of a block: each walks a run of tokens of its own
constexpr int kVector = 4;  // channels of a thread: 16 bytes of bf16 would need more registers than there are

template <class T>
struct Backward {
  T* dx;
  float* sums;  // (tiles, C, W), the tiles' parts of dweight: a tile is kStrands runs
  Parts<const T> dy;
  const T* x;
  const float* weight;
  Sizes size;
  DeviceSegments segments;
  std::int64_t run;  // tokens of a strand
};

// d silu(x) / dx
__device__ __forceinline__ float fast_slope(float x) {
  const float s = fast_sigmoid(x);
  return s * fmaf(x, 1.0F - s, 1.0F);
}

// kP channels of one thread. With g[n] the gradient of the sum at token n, dx[n] is the sum over j < W of
// g[n + j] tap[W - 1 - j]: it is whole once g[n + W - 1] is known.
template <class T, int kP>
struct Walk {
  const T* x;  // columns
  T* dx;
  std::int64_t channels;
  typename Parts<const T>::Column dy;
  Taps<kP> taps;
  Window<kP> window;
  float pending[kKept][kP];  // dx of the last kKept tokens, so far
  float dtaps[kTaps][kP]{};
  std::int32_t start = 0, stop = 0;  // tokens of the present segment whose dx and dtaps are this thread's

  __device__ __forceinline__ Walk(const Backward<T>& b, std::int64_t c)
      : x(b.x + c), dx(b.dx + c), channels(b.size.channels), dy(b.dy.column(c)), taps(b.weight + c * kTaps) {}

  __device__ __forceinline__ void token(const Elements<T, kP>& in, const Elements<T, kP>& d, std::int32_t n) {
    const float own = n < stop ? 1.0F : 0.0F;
    Elements<T, kP> out;
#pragma unroll
    for (int c = 0; c < kP; ++c) {
      const float now = in[c];
      const float g = d[c] * fast_slope(window.convolve(taps, now, c));
      const float own_g = own * g;
#pragma unroll
      for (int i = 0; i < kKept; ++i) dtaps[i][c] = fmaf(own_g, window.values[i][c], dtaps[i][c]);
      dtaps[kKept][c] = fmaf(own_g, now, dtaps[kKept][c]);
      window.push(now, c);

      out.set(c, fmaf(g, taps.values[0][c], pending[0][c]));
#pragma unroll
      for (int i = 0; i + 1 < kKept; ++i) pending[i][c] = fmaf(g, taps.values[i + 1][c], pending[i + 1][c]);
      pending[kKept - 1][c] = g * taps.values[kKept][c];
    }
    if (n - kKept >= start) store_whole<kP>(dx + std::int64_t{n - kKept} * channels, out);
  }
  // kGroup tokens from n on, or with !kWhole the first `count` of them.
  template <bool kWhole>
  __device__ __forceinline__ void group(std::int32_t n, int count) {
    Elements<T, kP> in[kGroup], d[kGroup];
#pragma unroll
    for (int u = 0; u < kGroup; ++u) {
      if (kWhole || u < count) {
        in[u] = load<kP>(x + std::int64_t{n + u} * channels);
        d[u] = load<kP>(dy.data + std::int64_t{n + u} * dy.stride);
      }
    }
#pragma unroll
    for (int u = 0; u < kGroup; ++u) {
      if (!kWhole && u >= count) break;
      token(in[u], d[u], n + u);
    }
  }
  // Tokens [start, stop) of the segment [begin, end): reads up to kKept tokens beyond on either side.
  __device__ __forceinline__ void run(std::int32_t begin, std::int32_t end) {
    window.fill(x, static_cast<const T*>(nullptr), start, begin, channels);
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
#pragma unroll
      for (int c = 0; c < kP; ++c) pending[i][c] = 0;
    }
    const std::int32_t reach = min(end, stop + kKept);
    std::int32_t n = start;
    for (; n + kGroup <= reach; n += kGroup) group<true>(n, kGroup);
    if (n < reach) group<false>(n, reach - n);
#pragma unroll
    for (int i = 0; i < kKept; ++i) {  // where the segment ends before the later tokens
      const std::int32_t m = reach - kKept + i;
      if (m < start || m >= stop) continue;
      Elements<T, kP> out;
#pragma unroll
      for (int c = 0; c < kP; ++c) out.set(c, pending[i][c]);
      store_whole<kP>(dx + std::int64_t{m} * channels, out);
    }
  }
};

// A block takes 32 vectors of channels and a tile of tokens, a warp one run of these.
template <class T, int kP>
__global__ void __launch_bounds__(kThreads, kResident) tile_kernel(const Backward<T> b) {
  constexpr int kSums = kTaps * kP;
  __shared__ float shared[kStrands][32][kSums + 1];  // one more, against bank conflicts
  const int lane = static_cast<int>(threadIdx.x) % 32, strand = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t vectors = b.size.channels / kP, column_blocks = (vectors + 31) / 32;
  const std::int64_t vector = blockIdx.x % column_blocks * 32 + lane, tile = blockIdx.x / column_blocks;
  auto n = static_cast<std::int32_t>((tile * kStrands + strand) * b.run);
  const auto end = static_cast<std::int32_t>(min(n + b.run, b.size.tokens));
  float* mine = shared[strand][lane];
#pragma unroll
  for (int i = 0; i < kSums; ++i) mine[i] = 0;
  if (vector < vectors && n < end) {
    Walk<T, kP> walk(b, vector * kP);
    for (std::int32_t s = b.segments.segment_of(n); n < end; ++s) {
      const std::int32_t begin = b.segments.offsets[s], limit = b.segments.offsets[s + 1];
      if (limit <= n) continue;  // empty
      walk.start = n;
      walk.stop = min(limit, end);
      walk.run(begin, limit);
      n = walk.stop;
    }
#pragma unroll
    for (int i = 0; i < kSums; ++i) mine[i] = walk.dtaps[i % kTaps][i / kTaps];
  }
  __syncthreads();
  const std::int64_t first = blockIdx.x % column_blocks * 32 * kSums;  // of this block in a row of sums
  const std::int64_t row = b.size.channels * kTaps;
  for (int i = static_cast<int>(threadIdx.x); i < 32 * kSums && first + i < row; i += kThreads) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kStrands; ++w) sum += shared[w][i / kSums][i % kSums];
    b.sums[tile * row + first + i] = sum;
  }
}

// Any number of taps: the gradient of the sum at token n, from the start.
template <class T>
__device__ float sum_gradient(const Backward<T>& b, std::int64_t n, std::int64_t begin, std::int64_t c) {
  const auto dy = b.dy.column(c);
  const float sum = convolve(b.x, static_cast<const T*>(nullptr), b.weight, n, begin, c, b.size);
  return to_float(dy.data[n * dy.stride]) * fast_slope(sum);
}

template <class T>
__global__ void __launch_bounds__(kThreads) plain_input_kernel(const Backward<T> b) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= b.size.tokens * b.size.channels) return;
  const std::int64_t n = i / b.size.channels, c = i % b.size.channels;
  const std::int32_t s = b.segments.segment_of(n);
  const std::int64_t begin = b.segments.offsets[s], end = b.segments.offsets[s + 1];
  float sum = 0;
  for (int j = 0; j < b.size.taps && n + j < end; ++j) {
    sum = fmaf(sum_gradient(b, n + j, begin, c), b.weight[c * b.size.taps + b.size.taps - 1 - j], sum);
  }
  b.dx[i] = from_float<T>(sum);
}

// One thread per tile of tokens and weight.
template <class T>
__global__ void __launch_bounds__(kThreads) plain_weight_kernel(const Backward<T> b, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const std::int64_t row = b.size.channels * b.size.taps, tile = i / row, c = i % row / b.size.taps;
  const std::int64_t behind = b.size.taps - 1 - i % b.size.taps;  // the input lies this far before the token
  float sum = 0;
  const std::int64_t tokens = kStrands * b.run, end = min((tile + 1) * tokens, b.size.tokens);
  for (std::int64_t n = tile * tokens; n < end; ++n) {
    const std::int64_t begin = b.segments.offsets[b.segments.segment_of(n)];
    if (n - behind < begin) continue;
    sum = fmaf(sum_gradient(b, n, begin, c), to_float(b.x[(n - behind) * b.size.channels + c]), sum);
  }
  b.sums[i] = sum;
}

template <class T>
void launch_plain(Context& ctx, const Backward<T>& b, std::int64_t inputs, std::int64_t sums) {
  const auto blocks = [](std::int64_t threads) { return static_cast<unsigned>(ceil_div(threads, kThreads)); };
  plain_input_kernel<<<blocks(inputs), kThreads, 0, stream_of(ctx)>>>(b);
  check_launch("short_convolution_backward");
  plain_weight_kernel<<<blocks(sums), kThreads, 0, stream_of(ctx)>>>(b, sums);
  check_launch("short_convolution_backward");
}

template <class T, int kP>
void launch_fast(Context& ctx, const Backward<T>& b) {
  const std::int64_t blocks = ceil_div(b.size.channels / kP, 32) * ceil_div(b.size.tokens, kStrands * b.run);
  tile_kernel<T, kP><<<static_cast<unsigned>(blocks), kThreads, 0, stream_of(ctx)>>>(b);
  check_launch("short_convolution_backward");
}

// Tokens of a strand; for kVector channels to a thread, which the fast path has but for odd widths.
std::int64_t run_of(const Context& ctx, const ConstTensor& x) {
  const std::int64_t columns = ceil_div(x.shape[1], 32 * kVector);
  return choose_walk(ctx, [&](std::int64_t run) { return columns * ceil_div(x.shape[0], kStrands * run); });
}

Tensor make_backward_scratch(Context& ctx, std::int64_t run, const ConstTensor& x,
                             const ConstTensor& weight) {
  return ctx.scratch->make(DType::f32, {ceil_div(x.shape[0], kStrands * run), weight.count()});
}

}  // namespace

void short_convolution_backward(Context& ctx, Tensor dx, Tensor dweight, ops::QkvInputs dqkv, ConstTensor x,
                                ConstTensor weight, ops::Segments segments) {
  if (x.count() == 0) return;
  const Arena::Scope scope(*ctx.scratch);
  const std::int64_t run = run_of(ctx, x);
  const Tensor sums = make_backward_scratch(ctx, run, x, weight);
  visit_activation("short_convolution_backward", x.dtype, [&]<class T>() {
    const Backward<T> b{pointer<T>(dx),
                        pointer<float>(sums),
                        parts_of<const T>(dqkv),
                        pointer<T>(x),
                        pointer<float>(weight),
                        {x.shape[0], x.shape[1], static_cast<int>(weight.shape[1])},
                        device_segments(segments),
                        run};
    if (b.size.taps != kTaps) {
      launch_plain(ctx, b, x.count(), sums.count());
    } else if (vectors_fit<kVector>(dqkv)) {
      launch_fast<T, kVector>(ctx, b);
    } else {
      launch_fast<T, 1>(ctx, b);
    }
  });
  add_column_sums(ctx, dweight, sums);
}

void scratch::short_convolution_backward(Context& ctx, Tensor, Tensor, ops::QkvInputs, ConstTensor x,
                                         ConstTensor weight, ops::Segments) {
  if (x.count() == 0) return;
  const Arena::Scope scope(*ctx.scratch);
  make_backward_scratch(ctx, run_of(ctx, x), x, weight);
}

}  // namespace braid::cuda
