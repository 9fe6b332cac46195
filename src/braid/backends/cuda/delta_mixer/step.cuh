// What a head of a token needs from decoding's core of a Gated DeltaNet layer, and its convolution.
#pragma once
#include <cmath>

#include "braid/backends/cuda/device/approximate.cuh"
#include "braid/backends/cuda/device/async_copy.cuh"
#include "braid/backends/cuda/device/cache_policy.cuh"
#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/elements.cuh"
#include "braid/backends/cuda/device/gates.cuh"
#include "braid/backends/cuda/gated_delta/tile.cuh"
#include "braid/backends/cuda/launch.h"
#include "braid/ops/delta_mixer.h"

namespace braid::cuda::delta_mixer {

inline constexpr int kTaps = 4, kKept = kTaps - 1;
// Of a warp: 8 lanes of 4 columns, times 4 groups of rows.
inline constexpr int kLanes = 8, kGroups = 4, kColumns = 4, kWarpColumns = kLanes * kColumns;
inline constexpr int kMostKeyWidth = 128, kMostValueWidth = 256, kMostWarps = kMostValueWidth / kWarpColumns;

template <class T>
struct Step {
  T *y, *convolution_state;
  float* state;
  const T *projected, *gate;
  const float *ab, *convolution, *a_log, *dt_bias, *norm;
  std::int64_t channels, items;
  std::int32_t heads, dk, dv;
  float scale, beta_scale, epsilon;
  bool ahead;  // states and parameters may be read before the kernel's turn
};

template <class T>
Step<T> make_step(const Context& ctx, const Tensor& y, const ops::DeltaMixerStates& states,
                  const ops::DeltaMixerInputs& in, const ops::DeltaMixerOptions& options) {
  const auto Dk = states.delta.shape[2];
  return {.y = pointer<T>(y),
          .convolution_state = pointer<T>(states.convolution),
          .state = pointer<float>(states.delta),
          .projected = pointer<T>(in.projected),
          .gate = pointer<T>(in.gate),
          .ab = pointer<float>(in.ab),
          .convolution = pointer<float>(in.convolution),
          .a_log = pointer<float>(in.a_log),
          .dt_bias = pointer<float>(in.dt_bias),
          .norm = pointer<float>(in.norm),
          .channels = in.projected.shape[1],
          .items = states.delta.shape[0] * states.delta.shape[1],
          .heads = static_cast<std::int32_t>(states.delta.shape[1]),
          .dk = static_cast<std::int32_t>(Dk),
          .dv = static_cast<std::int32_t>(states.delta.shape[3]),
          .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(Dk))),
          .beta_scale = static_cast<float>(options.beta_scale),
          .epsilon = static_cast<float>(options.epsilon),
          .ahead = ctx.fetch == Fetch::ahead};
}

// Convolves the head's q, k and v into shared memory, and shifts the convolution's state.
template <class T>
struct Convolution {
  const Step<T>& s;
  std::int64_t token;
  std::int32_t head;

  struct Channel {
    T old[kKept], now;
    Elements<float, kTaps> taps;
    std::int64_t at;
  };
  // Channel i of the head, in the order q, k, v, without what this token brings.
  __device__ __forceinline__ Channel load_before(std::int32_t i) const {
    Channel c{};
    const std::int64_t keys = std::int64_t{s.heads} * s.dk;
    c.at = i < s.dk       ? std::int64_t{head} * s.dk + i
           : i < 2 * s.dk ? keys + std::int64_t{head} * s.dk + (i - s.dk)
                          : 2 * keys + std::int64_t{head} * s.dv + (i - 2 * s.dk);
    const T* old = s.convolution_state + token * kKept * s.channels + c.at;
#pragma unroll
    for (int w = 0; w < kKept; ++w) c.old[w] = old[w * s.channels];
    c.taps = load_constant<kTaps>(s.convolution + c.at * kTaps);
    return c;
  }
  __device__ __forceinline__ void load_now(Channel& c) const {
    c.now = s.projected[token * s.channels + c.at];
  }
  __device__ __forceinline__ Channel load(std::int32_t i) const {
    Channel c = load_before(i);
    load_now(c);
    return c;
  }
  __device__ __forceinline__ float finish(const Channel& c) const {
    float sum = c.taps[3] * to_float(c.now);
#pragma unroll
    for (int w = 0; w < kKept; ++w) sum = fmaf(c.taps[w], to_float(c.old[w]), sum);
    T* state = s.convolution_state + token * kKept * s.channels + c.at;
    state[0] = c.old[1];
    state[s.channels] = c.old[2];
    state[2 * s.channels] = c.now;
    return to_float(from_float<T>(sum * fast_sigmoid(sum)));  // as the op that stores it
  }
  // Finishes channel i into the head's token.
  __device__ __forceinline__ void put(std::int32_t i, const Channel& c, float* q, float* k, float* v) const {
    const float x = finish(c);
    (i < s.dk ? q[i] : i < 2 * s.dk ? k[i - s.dk] : v[i - 2 * s.dk]) = x;
  }
};

// exp(g) and beta of a head of a token.
__device__ __forceinline__ float2 gates_of(float a, float b, float a_log, float dt_bias, float beta_scale) {
  return {expf(log_decay_of(a, a_log, dt_bias)), beta_scale * exact_sigmoid(b)};
}

// As delta::advance, for a lane's columns of the state.
using Columns = Elements<float, kColumns>;
inline constexpr int kSums = 2 * kColumns + 3;  // over rows: Sᵀk, Sᵀq, k·k, q·q, k·q

// The sums over this lane's rows, which begin at k and q (multiples of 16 bytes), and those of the warp's
// other lanes of its columns.
template <int kRows>
__device__ __forceinline__ void sum_rows(float (&sums)[kSums], const Columns (&state)[kRows], const float* k,
                                         const float* q) {
#pragma unroll
  for (float& x : sums) x = 0;
  static_assert(kRows % 4 == 0);
#pragma unroll
  for (int r4 = 0; r4 < kRows; r4 += 4) {
    const auto ks = load<4>(k + r4), qs = load<4>(q + r4);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float kr = ks[i], qr = qs[i];
      const Columns& row = state[r4 + i];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        sums[c] = fmaf(row[c], kr, sums[c]);
        sums[kColumns + c] = fmaf(row[c], qr, sums[kColumns + c]);
      }
      sums[2 * kColumns] = fmaf(kr, kr, sums[2 * kColumns]);
      sums[2 * kColumns + 1] = fmaf(qr, qr, sums[2 * kColumns + 1]);
      sums[2 * kColumns + 2] = fmaf(kr, qr, sums[2 * kColumns + 2]);
    }
  }
#pragma unroll
  for (float& x : sums) {
#pragma unroll
    for (int step = kLanes; step < 32; step *= 2) x += __shfl_xor_sync(0xffffffffU, x, step);
  }
}

// What the sums over all rows make of a token.
struct Change {
  float decay, write[kColumns], y[kColumns], squares;  // write: δ / |k|; y in the output's precision

  template <class T>
  __device__ __forceinline__ Change(const Step<T>& s, const float (&sums)[kSums], float2 gates,
                                    const float (&v)[kColumns])
      : decay(gates.x), squares(0) {
    const float k_factor = delta::unit_factor(sums[2 * kColumns]),
                q_factor = delta::unit_factor(sums[2 * kColumns + 1]),
                similarity = sums[2 * kColumns + 2] * k_factor;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const float delta = gates.y * (v[c] - decay * k_factor * sums[c]);
      y[c] = to_float(from_float<T>(s.scale * q_factor * (decay * sums[kColumns + c] + similarity * delta)));
      write[c] = k_factor * delta;
      squares = fmaf(y[c], y[c], squares);
    }
  }
  // Stores the rows from `to` on, `stride` floats apart, the first `count` of kRows; k as in sum_rows.
  template <int kRows>
  __device__ __forceinline__ void store_rows(float* to, int stride, int count, const Columns (&before)[kRows],
                                             const float* k) const {
    const CachePolicy policy = used_once();
#pragma unroll
    for (int r4 = 0; r4 < kRows; r4 += 4) {
      const auto ks = load<4>(k + r4);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (r4 + i >= count) break;
        Columns next;
#pragma unroll
        for (int c = 0; c < kColumns; ++c) next.set(c, fmaf(ks[i], write[c], decay * before[r4 + i][c]));
        store_once(to + (r4 + i) * stride, next, policy);
      }
    }
  }
  // One column's output, without indexing registers.
  __device__ __forceinline__ float output(int column) const {
    float x = 0;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (c == column) x = y[c];
    }
    return x;
  }
  // `squares` summed over the warp's columns.
  __device__ __forceinline__ float warp_squares(bool inside) const {
    float sum = inside ? squares : 0;
#pragma unroll
    for (int step = 1; step < kLanes; step *= 2) sum += __shfl_xor_sync(0xffffffffU, sum, step);
    return sum;
  }
};

// The norm's factor of a head, from what its warps left.
template <class T>
__device__ __forceinline__ float norm_factor(const Step<T>& s, const float* squares, int warps) {
  float total = 0;
  for (int w = 0; w < warps; ++w) total += squares[w];
  return 1.0F / sqrtf(total / static_cast<float>(s.dv) + s.epsilon);
}

}  // namespace braid::cuda::delta_mixer
