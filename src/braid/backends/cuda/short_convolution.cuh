// What forward and backward of the short convolution share: the fast path's registers, and the plain sum for
// any number of taps.
#pragma once
#include <limits>

#include "braid/backends/cuda/device/approximate.cuh"
#include "braid/backends/cuda/device/elements.cuh"
#include "braid/backends/cuda/device/segments.cuh"
#include "braid/backends/cuda/device/store_whole.cuh"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda::convolution {

constexpr int kTaps = 4;          // of the fast path
constexpr int kKept = kTaps - 1;  // inputs before a token that it meets
constexpr int kThreads = 128;
constexpr int kResident = 4;  // blocks at once on a multiprocessor
constexpr int kGroup = 4;     // tokens whose loads are in flight together

// How many tokens a thread walks, where walks of so many take blocks(tokens) blocks. Blocks run in rounds, as
// many at a time as all multiprocessors hold: the length whose rounds end first, if a walk's beginning takes
// as long as kBeginning tokens.
template <class F>
std::int64_t choose_walk(const Context& ctx, F&& blocks) {
  constexpr std::int64_t kShortest = 16, kLongest = 80, kBeginning = 8;
  const std::int64_t at_once = std::int64_t{kResident} * state_of(ctx).multiprocessors;
  std::int64_t best = kShortest, least = std::numeric_limits<std::int64_t>::max();
  for (std::int64_t walk = kShortest; walk <= kLongest; walk += kGroup) {
    const std::int64_t cost = ceil_div(blocks(walk), at_once) * (walk + kBeginning);
    if (cost < least) least = cost, best = walk;
  }
  return best;
}

struct Sizes {
  std::int64_t tokens, channels;
  int taps;
};

// The tensors that [q | k | v] is split into. T is const for inputs.
template <class T>
struct Parts {
  T *q, *k, *v;
  std::int64_t q_width, k_width, v_width;

  // Column c of the whole: element n lies at data[n * stride].
  struct Column {
    T* data;
    std::int64_t stride;
  };
  __device__ __forceinline__ Column column(std::int64_t c) const {
    if (c < q_width) return {q + c, q_width};
    if (c < q_width + k_width) return {k + (c - q_width), k_width};
    return {v + (c - q_width - k_width), v_width};
  }
};

template <class T, class Q>
Parts<T> parts_of(const Q& qkv) {
  return {pointer<std::remove_const_t<T>>(qkv.q),
          pointer<std::remove_const_t<T>>(qkv.k),
          pointer<std::remove_const_t<T>>(qkv.v),
          qkv.q.shape[1],
          qkv.k.shape[1],
          qkv.v.shape[1]};
}

// Whether every part is whole vectors of kP channels, so that no vector lies in two of them.
template <int kP, class Q>
bool vectors_fit(const Q& qkv) {
  return qkv.q.shape[1] % kP == 0 && qkv.k.shape[1] % kP == 0 && qkv.v.shape[1] % kP == 0;
}

inline DeviceSegments device_segments(const ops::Segments& segments) {
  return {pointer<std::int32_t>(segments.offsets), static_cast<std::int32_t>(segments.count())};
}

// Weights of kP neighbouring channels, tap by tap.
template <int kP>
struct Taps {
  float values[kTaps][kP];

  __device__ __forceinline__ explicit Taps(const float* weight) {
    const auto rows = load_constant<kP * kTaps>(weight);
#pragma unroll
    for (int i = 0; i < kP * kTaps; ++i) values[i % kTaps][i / kTaps] = rows[i];
  }
};

// The kKept inputs before the token that comes next, oldest first.
template <int kP>
struct Window {
  float values[kKept][kP];

  // Before token n of a segment that starts at `begin`. `x` and `state` (null: zeros) are columns with rows
  // `channels` apart; the state's rows are the segment's own.
  template <class T>
  __device__ __forceinline__ void fill(const T* x, const T* state, std::int64_t n, std::int64_t begin,
                                       std::int64_t channels) {
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      const std::int64_t from = n - kKept + i - begin;  // token of the segment
      Elements<T, kP> row{};
      if (from >= 0) {
        row = load<kP>(x + (begin + from) * channels);
      } else if (state != nullptr) {
        row = load<kP>(state + (kKept + from) * channels);
      }
#pragma unroll
      for (int c = 0; c < kP; ++c) values[i][c] = row[c];
    }
  }
  __device__ __forceinline__ float convolve(const Taps<kP>& taps, float now, int c) const {
    float sum = taps.values[kKept][c] * now;
#pragma unroll
    for (int i = 0; i < kKept; ++i) sum = fmaf(taps.values[i][c], values[i][c], sum);
    return sum;
  }
  __device__ __forceinline__ void push(float now, int c) {
#pragma unroll
    for (int i = 0; i + 1 < kKept; ++i) values[i][c] = values[i + 1][c];
    values[kKept - 1][c] = now;
  }
};

// The sum of any number of taps at token n, channel c of a segment from `begin`; `state` as in Window.
template <class T>
__device__ __forceinline__ float convolve(const T* x, const T* state, const float* weight, std::int64_t n,
                                          std::int64_t begin, std::int64_t c, const Sizes& size) {
  float sum = 0;
  for (int w = 0; w < size.taps; ++w) {
    const std::int64_t from = n - (size.taps - 1) + w - begin;
    if (from < 0 && state == nullptr) continue;
    const T* row =
        from >= 0 ? x + (begin + from) * size.channels : state + (size.taps - 1 + from) * size.channels;
    sum = fmaf(weight[c * size.taps + w], to_float(row[c]), sum);
  }
  return sum;
}

}  // namespace braid::cuda::convolution
