// One launch for the core of a Gated DeltaNet layer in decoding. A cluster of blocks shares a head: each
// holds some columns of its state, all convolve the head's q and k, and the norm's squares go from block to
// block. Every state is read and written once, so the floor is that of gated_delta/step.cu.
#include <cooperative_groups.h>

#include <cmath>

#include "braid/backends/cuda/device/approximate.cuh"
#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/elements.cuh"
#include "braid/backends/cuda/device/gates.cuh"
#include "braid/backends/cuda/gated_delta/tile.cuh"
#include "braid/backends/cuda/kernels.h"

namespace braid::cuda {
namespace {

using namespace delta;
namespace cg = cooperative_groups;

constexpr int kTaps = 4, kKept = kTaps - 1, kColumns = 4, kMostSlices = 8;
// That one block convolves, at most, with kRows rows of the state to a thread.
template <int kRows>
constexpr int kMostChannels = 2 * kRows* kGroups + kLanes* kColumns;

template <class T>
struct Step {
  Problem<T> p;  // q, k, v, log_decay, beta and offsets are not read
  T *y, *convolution_state;
  float* state;
  const T *projected, *gate;
  const float *ab, *convolution, *a_log, *dt_bias, *norm;
  std::int64_t channels;
  float beta_scale, epsilon;
};

// The channels that one block convolves: q and k of its head, then its columns of v.
struct Channels {
  std::int32_t dk, dv, heads, head, first, count;  // first: of the columns

  __device__ __forceinline__ Channels(const Place& at, std::int32_t all_heads)
      : dk(at.dk),
        dv(at.dv),
        heads(all_heads),
        head(at.head),
        first(at.slice * kLanes * kColumns),
        count(2 * at.dk + min(kLanes * kColumns, at.dv - first)) {}
  // Where channel i of the block lies among all.
  __device__ __forceinline__ std::int64_t place(int i) const {
    if (i < dk) return std::int64_t{head} * dk + i;
    if (i < 2 * dk) return std::int64_t{heads} * dk + std::int64_t{head} * dk + (i - dk);
    return 2 * std::int64_t{heads} * dk + std::int64_t{head} * dv + first + (i - 2 * dk);
  }
};

// Each thread's channels: inputs that stay in the state, and the results in shared memory.
template <int kRows, class T>
struct Convolution {
  static constexpr int kEach = (kMostChannels<kRows> + kThreads - 1) / kThreads;
  T kept[kEach][kKept];

  __device__ __forceinline__ void run(float* mixed, const Step<T>& s, const Channels& channels,
                                      std::int64_t token) {
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int i = j * kThreads + static_cast<int>(threadIdx.x);
      if (i >= channels.count) break;
      const std::int64_t c = channels.place(i);
      const T* old = s.convolution_state + token * kKept * s.channels + c;
      const auto taps = load_constant<kTaps>(s.convolution + c * kTaps);
      const T now = s.projected[token * s.channels + c], first = old[0];
      kept[j][0] = old[s.channels];
      kept[j][1] = old[2 * s.channels];
      kept[j][2] = now;
      float sum = taps[3] * to_float(now);
      sum = fmaf(taps[0], to_float(first), sum);
      sum = fmaf(taps[1], to_float(kept[j][0]), sum);
      sum = fmaf(taps[2], to_float(kept[j][1]), sum);
      mixed[i] = to_float(from_float<T>(sum * fast_sigmoid(sum)));  // as the op that stores it
    }
  }
  // q and k belong to all blocks of the head; one of them keeps them, when all have read.
  __device__ __forceinline__ void keep(const Step<T>& s, const Channels& channels, std::int64_t token,
                                       bool keeps_keys) const {
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int i = j * kThreads + static_cast<int>(threadIdx.x);
      if (i >= channels.count) break;
      if (i < 2 * channels.dk && !keeps_keys) continue;
      T* state = s.convolution_state + token * kKept * s.channels + channels.place(i);
#pragma unroll
      for (int w = 0; w < kKept; ++w) state[w * s.channels] = kept[j][w];
    }
  }
};

template <int kRows, class T>
__global__ void __launch_bounds__(kThreads, kRows <= 6 ? 8 : 1)
    mixer_kernel(__grid_constant__ const Step<T> s) {
  __shared__ float sums[kSumFloats<kColumns>], mixed[kMostChannels<kRows>], squares;
  const Place at(s.p, static_cast<std::int32_t>(blockIdx.x), kColumns);
  const Channels channels(at, s.p.heads);
  const std::int64_t token = at.segment;
  float* matrix = matrix_of(s.state, token, s.p.heads, at);
  const int columns = channels.count - 2 * at.dk;
  for (int r = static_cast<int>(threadIdx.x); r < at.dk; r += kThreads) {
    prefetch_l2(matrix + std::int64_t{r} * at.dv + channels.first, static_cast<unsigned>(columns) * 4);
  }
  begin_early();

  float state[kRows][kColumns];
  load_tile(state, matrix, at);
  Convolution<kRows, T> convolution;
  convolution.run(mixed, s, channels, token);
  __syncthreads();
  Token<kRows, kColumns> t;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const bool inside = at.row(r) < at.dk;
    t.q[r] = inside ? mixed[at.row(r)] : 0.0F;
    t.k[r] = inside ? mixed[at.dk + at.row(r)] : 0.0F;
  }
#pragma unroll
  for (int c = 0; c < kColumns; ++c) t.v[c] = at.inside ? mixed[2 * at.dk + at.lane * kColumns + c] : 0.0F;
  const float* ab = s.ab + token * 2 * s.p.heads;
  t.log_decay = log_decay_of(ab[at.head], s.a_log[at.head], s.dt_bias[at.head]);
  t.beta = s.beta_scale * exact_sigmoid(ab[s.p.heads + at.head]);
  float y[kColumns];
  advance(state, t, s.p.scale, sums, y);
  store_tile(matrix, state, at);

  float square = 0;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    y[c] = at.inside ? to_float(from_float<T>(y[c])) : 0.0F;
    square = fmaf(y[c], y[c], square);
  }
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) square += __shfl_xor_sync(0xffffffffU, square, step);
  if (threadIdx.x == 0) squares = square;
  const auto head = cg::this_cluster();
  head.sync();
  float total = 0;
  for (int slice = 0; slice < s.p.slices; ++slice) {
    total += *head.map_shared_rank(&squares, static_cast<unsigned>(slice));
  }
  head.sync();  // until nobody reads this block's memory
  convolution.keep(s, channels, token, at.slice == 0);
  if (at.group != 0 || !at.inside) return;
  const float r = 1.0F / sqrtf(total / static_cast<float>(at.dv) + s.epsilon);
  const std::int64_t row = s.p.value_row(token, at.head);
  float gate[kColumns];
  load_columns(gate, s.gate + row, at);
#pragma unroll
  for (int c = 0; c < kColumns; ++c) y[c] = y[c] * r * s.norm[at.column + c] * silu(gate[c]);
  store_columns(s.y + row, y, at);
}

// Whether the kernel can do it, from shapes alone.
bool fits(const ops::DeltaMixerStates& states, const ops::DeltaMixerInputs& in) {
  const auto Hv = states.delta.shape[1], Dk = states.delta.shape[2], Dv = states.delta.shape[3];
  const bool own_keys = in.projected.shape[1] == Hv * (2 * Dk + Dv);
  return own_keys && in.convolution.shape[1] == kTaps && Dk <= kMaxKeyWidth && Dv % kColumns == 0 &&
         ceil_div(Dv, kLanes * kColumns) <= kMostSlices;
}

template <class T>
Step<T> make_step(const Tensor& y, const ops::DeltaMixerStates& states, const ops::DeltaMixerInputs& in,
                  const ops::DeltaMixerOptions& options) {
  const auto S = states.delta.shape[0], H = states.delta.shape[1], Dk = states.delta.shape[2],
             Dv = states.delta.shape[3];
  Problem<T> p{};
  p.tokens = p.segments = S;
  p.key_heads = p.heads = static_cast<std::int32_t>(H);
  p.dk = static_cast<std::int32_t>(Dk);
  p.dv = static_cast<std::int32_t>(Dv);
  p.slices = static_cast<std::int32_t>(ceil_div(Dv, kLanes * kColumns));
  p.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(Dk)));
  return {.p = p,
          .y = pointer<T>(y),
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
          .beta_scale = static_cast<float>(options.beta_scale),
          .epsilon = static_cast<float>(options.epsilon)};
}

}  // namespace

void delta_mixer_step(Context& ctx, Tensor y, ops::DeltaMixerStates states, ops::DeltaMixerInputs in,
                      ops::Segments segments, ops::DeltaMixerOptions options) {
  if (y.count() == 0) return;
  if (!fits(states, in)) return ops::delta_mixer_step_in_parts(ctx, y, states, in, segments, options);
  visit_activation("delta_mixer_step", y.dtype, [&]<class T>() {
    const Step<T> step = make_step<T>(y, states, in, options);
    visit_tile(step.p.dk, step.p.dv, [&]<int kRows, int kTileColumns>() {
      if constexpr (kTileColumns == kColumns) {
        launch_early(ctx, "delta_mixer_step", mixer_kernel<kRows, T>,
                     {.grid = dim3(static_cast<unsigned>(step.p.tasks())),
                      .threads = kThreads,
                      .cluster = step.p.slices},
                     step);
      }
    });
  });
}

void scratch::delta_mixer_step(Context& ctx, Tensor y, ops::DeltaMixerStates states, ops::DeltaMixerInputs in,
                               ops::Segments segments, ops::DeltaMixerOptions options) {
  if (y.count() == 0 || fits(states, in)) return;
  ops::delta_mixer_step_in_parts(ctx, y, states, in, segments, options);
}

}  // namespace braid::cuda
