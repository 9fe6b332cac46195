// One launch for the core of a Gated DeltaNet layer in decoding. A block has a head, each of its warps 32
// columns of the head's state, whole, in registers: only the convolved token and the norm's squares go
// between warps. Every state is read and written once, so the floor is that of gated_delta/step.cu.
#include <cmath>
#include <limits>

#include "braid/backends/cuda/device/approximate.cuh"
#include "braid/backends/cuda/device/async_copy.cuh"
#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/elements.cuh"
#include "braid/backends/cuda/device/gates.cuh"
#include "braid/backends/cuda/gated_delta/tile.cuh"
#include "braid/backends/cuda/kernels.h"

namespace braid::cuda {
namespace {

constexpr int kTaps = 4, kKept = kTaps - 1;
// A warp: 8 lanes of 4 columns, times 4 groups of rows.
constexpr int kLanes = 8, kGroups = 4, kColumns = 4, kWarpColumns = kLanes * kColumns;
constexpr std::int64_t kMostItems = std::numeric_limits<std::int32_t>::max();  // of a grid
constexpr int kResident = 2;  // blocks of a multiprocessor, by their registers
constexpr int kMostKeyWidth = 128, kMostValueWidth = 256, kMostWarps = kMostValueWidth / kWarpColumns;

template <class T>
struct Step {
  T *y, *convolution_state;
  float* state;
  const T *projected, *gate;
  const float *ab, *convolution, *a_log, *dt_bias, *norm;
  std::int64_t channels, items;
  std::int32_t heads, dk, dv;
  float scale, beta_scale, epsilon;
};

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
  // Channel i of the head, in the order q, k, v.
  __device__ __forceinline__ Channel load(std::int32_t i) const {
    Channel c;
    const std::int64_t keys = std::int64_t{s.heads} * s.dk;
    c.at = i < s.dk       ? std::int64_t{head} * s.dk + i
           : i < 2 * s.dk ? keys + std::int64_t{head} * s.dk + (i - s.dk)
                          : 2 * keys + std::int64_t{head} * s.dv + (i - 2 * s.dk);
    const T* old = s.convolution_state + token * kKept * s.channels + c.at;
#pragma unroll
    for (int w = 0; w < kKept; ++w) c.old[w] = old[w * s.channels];
    c.now = s.projected[token * s.channels + c.at];
    c.taps = load_constant<kTaps>(s.convolution + c.at * kTaps);
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
};

// kRows: of the state, to a thread. A block takes every gridDim.x-th of the items, heads of tokens. kAhead:
// it takes several, and while it works on one the copy engine brings the next one's state into shared memory.
template <int kRows, bool kAhead, class T>
__global__ void __launch_bounds__(32 * kMostWarps) mixer_kernel(__grid_constant__ const Step<T> s) {
  constexpr int kKeys = kGroups * kRows;
  __shared__ float q[kKeys], k[kKeys], v[kMostValueWidth], squares[kMostWarps], gates[2];
  __shared__ std::uint64_t barrier;
  extern __shared__ __align__(128) float next_state[];
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x),
            warp = thread / 32, lane = thread % kLanes, group = thread % 32 / kLanes;
  const std::int64_t size = std::int64_t{s.dk} * s.dv;
  const SharedAddress arrival = shared_address(&barrier);
  const auto fetch = [&](std::int64_t item) {
    if (!kAhead || thread != 0 || item >= s.items) return;
    arrive_expecting(arrival, static_cast<int>(size) * 4);
    copy_bulk(shared_address(next_state), s.state + item * size, static_cast<int>(size) * 4, arrival);
  };
  for (int r = thread; r < s.dk; r += threads) {
    prefetch_l2(s.state + blockIdx.x * size + std::int64_t{r} * s.dv, static_cast<unsigned>(s.dv) * 4);
  }
  if (kAhead && thread == 0) {
    init_barrier(arrival, 1);
    publish_barriers();
  }
  begin_early();
  if (kAhead) __syncthreads();
  fetch(std::int64_t{blockIdx.x} + gridDim.x);

  int turn = 0;
  for (std::int64_t item = blockIdx.x; item < s.items; item += gridDim.x, ++turn) {
    const std::int64_t token = item / s.heads;
    const auto head = static_cast<std::int32_t>(item % s.heads);
    const int column = warp * kWarpColumns + lane * kColumns, first = group * kRows;
    const bool inside = column < s.dv;
    const int begin = first * s.dv + column;
    float* mine = s.state + item * size + begin;
    if (kAhead && turn > 0) wait_for_phase(arrival, (turn - 1) % 2);
    Elements<float, kColumns> state[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const bool mine_too = inside && first + r < s.dk;
      if (kAhead && turn > 0) {
        state[r] = mine_too ? load<kColumns>(next_state + begin + r * s.dv) : Elements<float, kColumns>{};
      } else {
        state[r] = mine_too ? load<kColumns>(mine + std::int64_t{r} * s.dv) : Elements<float, kColumns>{};
      }
    }
    // Each group finishes one of a lane's columns.
    const std::int64_t out = (token * s.heads + head) * s.dv + column + group;
    const float gate = inside ? to_float(s.gate[out]) : 0.0F, weight = inside ? s.norm[column + group] : 0.0F;

    const Convolution<T> convolution{s, token, head};
    const std::int32_t channels = 2 * s.dk + s.dv;
    const auto put = [&](std::int32_t i, float x) {
      (i < s.dk ? q[i] : i < 2 * s.dk ? k[i - s.dk] : v[i - 2 * s.dk]) = x;
    };
    for (std::int32_t i = thread; i < channels; i += 2 * threads) {
      const bool second = i + threads < channels;
      const auto a = convolution.load(i), b = convolution.load(second ? i + threads : i);
      put(i, convolution.finish(a));
      if (second) put(i + threads, convolution.finish(b));
    }
    for (int i = s.dk + thread; i < kKeys; i += threads) q[i] = k[i] = 0;
    if (thread == threads - 1) {
      const float* ab = s.ab + token * 2 * s.heads;
      gates[0] = expf(log_decay_of(ab[head], s.a_log[head], s.dt_bias[head]));
      gates[1] = s.beta_scale * exact_sigmoid(ab[s.heads + head]);
    }
    __syncthreads();
    if (turn > 0) fetch(item + gridDim.x);  // all have read the state before it

    // As delta::advance, the sums over rows within a warp.
    constexpr int kSums = 2 * kColumns + 3;
    float sums[kSums] = {};  // Sᵀk, Sᵀq, k·k, q·q, k·q
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float kr = k[first + r], qr = q[first + r];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        sums[c] = fmaf(state[r][c], kr, sums[c]);
        sums[kColumns + c] = fmaf(state[r][c], qr, sums[kColumns + c]);
      }
      sums[2 * kColumns] = fmaf(kr, kr, sums[2 * kColumns]);
      sums[2 * kColumns + 1] = fmaf(qr, qr, sums[2 * kColumns + 1]);
      sums[2 * kColumns + 2] = fmaf(kr, qr, sums[2 * kColumns + 2]);
    }
#pragma unroll
    for (int i = 0; i < kSums; ++i) {
#pragma unroll
      for (int step = kLanes; step < 32; step *= 2) sums[i] += __shfl_xor_sync(0xffffffffU, sums[i], step);
    }
    const float decay = gates[0], beta = gates[1], k_factor = delta::unit_factor(sums[2 * kColumns]),
                q_factor = delta::unit_factor(sums[2 * kColumns + 1]),
                similarity = sums[2 * kColumns + 2] * k_factor;
    float write[kColumns], y = 0, square = 0;  // write: δ / |k|
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const float delta = beta * ((inside ? v[column + c] : 0.0F) - decay * k_factor * sums[c]);
      const float all = s.scale * q_factor * (decay * sums[kColumns + c] + similarity * delta);
      const float rounded = to_float(from_float<T>(all));
      write[c] = k_factor * delta;
      if (c == group) y = rounded;
      square = fmaf(rounded, rounded, square);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float kr = k[first + r];
      Elements<float, kColumns> next;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) next.set(c, fmaf(kr, write[c], decay * state[r][c]));
      if (inside && first + r < s.dk) store(mine + std::int64_t{r} * s.dv, next);
    }

    if (!inside) square = 0;
#pragma unroll
    for (int step = 1; step < kLanes; step *= 2) square += __shfl_xor_sync(0xffffffffU, square, step);
    if (thread % 32 == 0) squares[warp] = square;
    __syncthreads();
    float total = 0;
    for (int w = 0; w < threads / 32; ++w) total += squares[w];
    const float r = 1.0F / sqrtf(total / static_cast<float>(s.dv) + s.epsilon);
    if (inside) s.y[out] = from_float<T>(y * r * weight * silu(gate));
  }
}

// Whether the kernel can do it, from shapes alone.
bool fits(const ops::DeltaMixerStates& states, const ops::DeltaMixerInputs& in) {
  const auto Hv = states.delta.shape[1], Dk = states.delta.shape[2], Dv = states.delta.shape[3];
  const bool own_keys = in.projected.shape[1] == Hv * (2 * Dk + Dv);
  return own_keys && states.delta.shape[0] * Hv <= kMostItems && in.convolution.shape[1] == kTaps &&
         Dk <= kMostKeyWidth && Dv <= kMostValueWidth && Dv % kColumns == 0;
}

template <class T>
Step<T> make_step(const Tensor& y, const ops::DeltaMixerStates& states, const ops::DeltaMixerInputs& in,
                  const ops::DeltaMixerOptions& options) {
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
          .epsilon = static_cast<float>(options.epsilon)};
}

template <int kRows, class T>
void launch(const Context& ctx, const Step<T>& step) {
  constexpr int kMostBytes = 96 * 1024;  // of a state, that so many blocks have room
  const auto threads = static_cast<int>(32 * ceil_div(step.dv, kWarpColumns));
  const int bytes = step.dk * step.dv * 4;
  const std::int64_t at_once = std::int64_t{kResident} * state_of(ctx).multiprocessors;
  if (step.items <= at_once || bytes > kMostBytes) {
    launch_early(ctx, "delta_mixer_step", mixer_kernel<kRows, false, T>,
                 {dim3(static_cast<unsigned>(step.items)), threads}, step);
    return;
  }
  const auto kernel = mixer_kernel<kRows, true, T>;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostBytes),
             "delta_mixer_step");
  launch_early(ctx, "delta_mixer_step", kernel,
               {.grid = dim3(static_cast<unsigned>(at_once)),
                .threads = threads,
                .shared_bytes = static_cast<std::size_t>(bytes)},
               step);
}

}  // namespace

void delta_mixer_step(Context& ctx, Tensor y, ops::DeltaMixerStates states, ops::DeltaMixerInputs in,
                      ops::Segments segments, ops::DeltaMixerOptions options) {
  if (y.count() == 0) return;
  if (!fits(states, in)) return ops::delta_mixer_step_in_parts(ctx, y, states, in, segments, options);
  visit_activation("delta_mixer_step", y.dtype, [&]<class T>() {
    const Step<T> step = make_step<T>(y, states, in, options);
    if (step.dk <= 32) return launch<8>(ctx, step);
    if (step.dk <= 64) return launch<16>(ctx, step);
    if (step.dk <= 96) return launch<24>(ctx, step);
    launch<32>(ctx, step);
  });
}

void scratch::delta_mixer_step(Context& ctx, Tensor y, ops::DeltaMixerStates states, ops::DeltaMixerInputs in,
                               ops::Segments segments, ops::DeltaMixerOptions options) {
  if (y.count() == 0 || fits(states, in)) return;
  ops::delta_mixer_step_in_parts(ctx, y, states, in, segments, options);
}

}  // namespace braid::cuda
