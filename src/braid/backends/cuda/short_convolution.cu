#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/short_convolution.cuh"

namespace braid::cuda {
namespace {

using namespace convolution;

constexpr std::int64_t kShortSegment = 64;  // tokens that a thread may walk alone

template <class T>
struct Forward {
  Parts<T> y;
  T* state;  // (S, W - 1, C) or null
  const T* x;
  const float* weight;
  Sizes size;
  DeviceSegments segments;
  std::int64_t walk = 0;  // tokens of a thread of tile_kernel

  __device__ __forceinline__ T* state_of_segment(std::int64_t s, std::int64_t c) const {
    return state == nullptr ? nullptr : state + s * (size.taps - 1) * size.channels + c;
  }
};

// kP channels of one thread.
template <class T, int kP>
struct Walk {
  const T* x;  // column
  std::int64_t channels;
  typename Parts<T>::Column y;
  Taps<kP> taps;
  Window<kP> window;

  __device__ __forceinline__ Walk(const Forward<T>& f, std::int64_t c)
      : x(f.x + c), channels(f.size.channels), y(f.y.column(c)), taps(f.weight + c * kTaps) {}

  // kGroup tokens from n on, or with !kWhole the first `count` of them.
  template <bool kWhole>
  __device__ __forceinline__ void group(std::int64_t n, int count) {
    Elements<T, kP> in[kGroup];
#pragma unroll
    for (int u = 0; u < kGroup; ++u) {
      if (kWhole || u < count) in[u] = load<kP>(x + (n + u) * channels);
    }
#pragma unroll
    for (int u = 0; u < kGroup; ++u) {
      if (!kWhole && u >= count) break;
      Elements<T, kP> out;
#pragma unroll
      for (int c = 0; c < kP; ++c) {
        const float now = in[u][c], sum = window.convolve(taps, now, c);
        out.set(c, sum * fast_sigmoid(sum));
        window.push(now, c);
      }
      store_whole<kP>(y.data + (n + u) * y.stride, out);
    }
  }
  __device__ __forceinline__ void run(std::int64_t n, std::int64_t end) {
    for (; n + kGroup <= end; n += kGroup) group<true>(n, kGroup);
    if (n < end) group<false>(n, static_cast<int>(end - n));
  }
  __device__ __forceinline__ void keep(T* state) const {
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      Elements<T, kP> row;
#pragma unroll
      for (int c = 0; c < kP; ++c) row.set(c, window.values[i][c]);
      store_whole<kP>(state + i * channels, row);
    }
  }
};

// A thread's channels and its place along the other axis, channels fastest.
struct Place {
  std::int64_t c, other;
};
template <int kP>
__device__ __forceinline__ Place place(std::int64_t channels) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x, vectors = channels / kP;
  return {i % vectors * kP, i / vectors};
}

// One thread walks f.walk tokens, through whatever segments lie there. The state is only read.
template <class T, int kP>
__global__ void __launch_bounds__(kThreads, kResident) tile_kernel(const Forward<T> f) {
  begin_early();
  const auto [c, tile] = place<kP>(f.size.channels);
  std::int64_t n = tile * f.walk;
  if (n >= f.size.tokens) return;
  const std::int64_t end = min(n + f.walk, f.size.tokens);
  Walk<T, kP> walk(f, c);
  for (std::int32_t s = f.segments.segment_of(n); n < end; ++s) {
    const std::int64_t begin = f.segments.offsets[s],
                       stop = min(std::int64_t{f.segments.offsets[s + 1]}, end);
    if (stop <= n) continue;  // empty
    walk.window.fill(walk.x, static_cast<const T*>(f.state_of_segment(s, c)), n, begin, walk.channels);
    walk.run(n, stop);
    n = stop;
  }
}

// One thread walks one whole segment, which makes it the only one that touches its part of the state.
template <class T, int kP>
__global__ void __launch_bounds__(kThreads, kResident) segment_kernel(const Forward<T> f) {
  begin_early();
  const auto [c, s] = place<kP>(f.size.channels);
  if (s >= f.segments.count) return;
  const std::int64_t begin = f.segments.offsets[s], end = f.segments.offsets[s + 1];
  if (begin == end) return;
  T* state = f.state_of_segment(s, c);
  Walk<T, kP> walk(f, c);
  walk.window.fill(walk.x, static_cast<const T*>(state), begin, begin, walk.channels);
  walk.run(begin, end);
  walk.keep(state);
}

// Any number of taps: one thread per token and channel.
template <class T>
__global__ void __launch_bounds__(kThreads) plain_kernel(const Forward<T> f) {
  begin_early();
  const auto [c, n] = place<1>(f.size.channels);
  if (n >= f.size.tokens) return;
  const std::int32_t s = f.segments.segment_of(n);
  const T* state = f.state_of_segment(s, 0);
  const float sum = convolve(f.x, state, f.weight, n, f.segments.offsets[s], c, f.size);
  const auto y = f.y.column(c);
  y.data[n * y.stride] = from_float<T>(sum * fast_sigmoid(sum));
}

// The last W - 1 of (old state, segment); ascending, so an old entry moves before it is overwritten.
template <class T>
__global__ void __launch_bounds__(kThreads) state_kernel(const Forward<T> f) {
  begin_early();
  const auto [c, s] = place<1>(f.size.channels);
  if (s >= f.segments.count) return;
  const std::int64_t begin = f.segments.offsets[s], length = f.segments.offsets[s + 1] - begin;
  if (length == 0) return;
  T* state = f.state_of_segment(s, c);
  const int kept = f.size.taps - 1;
  for (int i = 0; i < kept; ++i) {
    const std::int64_t from = length - kept + i;
    state[i * f.size.channels] =
        from >= 0 ? f.x[(begin + from) * f.size.channels + c] : state[(kept + from) * f.size.channels];
  }
}

template <class T>
void launch(Context& ctx, void (*kernel)(Forward<T>), const Forward<T>& f, std::int64_t threads) {
  if (threads == 0) return;
  launch_early(ctx, "short_convolution_forward", kernel,
               {dim3(static_cast<unsigned>(ceil_div(threads, kThreads))), kThreads}, f);
}

template <class T, int kP>
void launch_fast(Context& ctx, Forward<T> f, bool by_segment) {
  const std::int64_t vectors = f.size.channels / kP;
  if (by_segment) return launch(ctx, segment_kernel<T, kP>, f, vectors * f.segments.count);
  const auto threads = [&](std::int64_t walk) { return vectors * ceil_div(f.size.tokens, walk); };
  f.walk = choose_walk(ctx, [&](std::int64_t walk) { return ceil_div(threads(walk), kThreads); });
  launch(ctx, tile_kernel<T, kP>, f, threads(f.walk));
}

}  // namespace

void short_convolution_forward(Context& ctx, ops::QkvOutputs y, Tensor state, ConstTensor x,
                               ConstTensor weight, ops::Segments segments) {
  const Sizes size{x.shape[0], x.shape[1], static_cast<int>(weight.shape[1])};
  if (x.count() == 0) return;
  // Decode steps and short inputs: a launch that also replaces the state.
  const std::int64_t longest = segments.longest > 0 ? segments.longest : size.tokens;
  const bool stateful = state.defined(), fast = size.taps == kTaps;
  const bool by_segment = stateful && fast && (longest <= kShortSegment || size.tokens == segments.count());
  visit_activation("short_convolution_forward", x.dtype, [&]<class T>() {
    const Forward<T> f{parts_of<T>(y), pointer<T>(state),        pointer<T>(x), pointer<float>(weight),
                       size,           device_segments(segments)};
    if (!fast) {
      launch(ctx, plain_kernel<T>, f, x.count());
    } else if (vectors_fit<Pack<T>::kSize>(y)) {
      launch_fast<T, Pack<T>::kSize>(ctx, f, by_segment);
    } else {
      launch_fast<T, 1>(ctx, f, by_segment);
    }
    // A later launch, because other threads of the first read the old state.
    if (stateful && !by_segment) launch(ctx, state_kernel<T>, f, size.channels * segments.count());
  });
}

}  // namespace braid::cuda
