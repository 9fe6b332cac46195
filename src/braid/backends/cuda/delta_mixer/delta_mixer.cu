// One launch for the core of a Gated DeltaNet layer in decoding. Every state is read and written once, so the
// floor is that of gated_delta/step.cu. Few heads: a block has a head, each of its warps 32 columns of the
// head's state, whole, in registers; only the convolved token and the norm's squares go between warps. Many:
// ring.cuh.
#include <limits>

#include "braid/backends/cuda/delta_mixer/ring.cuh"
#include "braid/backends/cuda/kernels.h"

namespace braid::cuda {
namespace {

using namespace delta_mixer;

constexpr std::int64_t kMostItems = std::numeric_limits<std::int32_t>::max();  // of a grid
constexpr int kResident = 2;  // blocks of a multiprocessor, by their registers

// kRows: of the state, to a thread.
template <int kRows, class T>
__global__ void __launch_bounds__(32 * kMostWarps) head_kernel(__grid_constant__ const Step<T> s) {
  constexpr int kKeys = kGroups * kRows;
  __shared__ __align__(16) float q[kKeys], k[kKeys], v[kMostValueWidth], squares[kMostWarps];
  __shared__ float2 gates;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x),
            warp = thread / 32, lane = thread % kLanes, group = thread % 32 / kLanes;
  const std::int64_t item = blockIdx.x, token = item / s.heads;
  const auto head = static_cast<std::int32_t>(item % s.heads);
  float* const head_state = s.state + item * s.dk * s.dv;
  begin_early(s.ahead);

  const int column = warp * kWarpColumns + lane * kColumns, first = group * kRows;
  const bool inside = column < s.dv;
  float* mine = head_state + std::int64_t{first} * s.dv + column;
  Columns state[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    state[r] = inside && first + r < s.dk ? load<kColumns>(mine + std::int64_t{r} * s.dv) : Columns{};
  }
  if (s.ahead) wait_for_earlier();
  // Each group finishes one of a lane's columns.
  const std::int64_t out = item * s.dv + column + group;
  const float gate = inside ? to_float(s.gate[out]) : 0.0F, weight = inside ? s.norm[column + group] : 0.0F;

  const Convolution<T> convolution{s, token, head};
  const std::int32_t channels = 2 * s.dk + s.dv;
  for (std::int32_t i = thread; i < channels; i += 2 * threads) {
    const bool second = i + threads < channels;
    const auto a = convolution.load(i), b = convolution.load(second ? i + threads : i);
    convolution.put(i, a, q, k, v);
    if (second) convolution.put(i + threads, b, q, k, v);
  }
  for (int i = s.dk + thread; i < kKeys; i += threads) q[i] = k[i] = 0;
  if (thread == threads - 1) {
    const float* ab = s.ab + token * 2 * s.heads;
    gates = gates_of(ab[head], ab[s.heads + head], s.a_log[head], s.dt_bias[head], s.beta_scale);
  }
  __syncthreads();

  float sums[kSums], values[kColumns];
  sum_rows(sums, state, k + first, q + first);
#pragma unroll
  for (int c = 0; c < kColumns; ++c) values[c] = inside ? v[column + c] : 0.0F;
  const Change change(s, sums, gates, values);
  if (inside) change.store_rows(mine, s.dv, s.dk - first, state, k + first);

  const float square = change.warp_squares(inside);
  if (thread % 32 == 0) squares[warp] = square;
  __syncthreads();
  const float factor = norm_factor(s, squares, threads / 32);
  if (inside) s.y[out] = from_float<T>(change.output(group) * factor * weight * silu(gate));
}

// Whether the kernel can do it, from shapes alone.
bool fits(const ops::DeltaMixerStates& states, const ops::DeltaMixerInputs& in) {
  const auto Hv = states.delta.shape[1], Dk = states.delta.shape[2], Dv = states.delta.shape[3];
  const bool own_keys = in.projected.shape[1] == Hv * (2 * Dk + Dv);
  return own_keys && states.delta.shape[0] * Hv <= kMostItems && in.convolution.shape[1] == kTaps &&
         Dk <= kMostKeyWidth && Dv <= kMostValueWidth && Dv % kColumns == 0;
}

template <int kRows, class T>
void launch(const Context& ctx, const Step<T>& step) {
  const State& state = state_of(ctx);
  const int columns = static_cast<int>(ceil_div(step.dv, kWarpColumns));
  const int stages = ring_stages(state.shared_bytes, step.dk, step.dv);
  if (step.items <= std::int64_t{kResident} * state.multiprocessors || stages < 2) {
    launch_early(ctx, "delta_mixer_step", head_kernel<kRows, T>,
                 {dim3(static_cast<unsigned>(step.items)), 32 * columns}, step);
    return;
  }
  const auto kernel = ring_kernel<kRows / kHalves, T>;
  const int bytes = stages * step.dk * step.dv * 4;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
             "delta_mixer_step");
  launch_early(ctx, "delta_mixer_step", kernel,
               {.grid = dim3(static_cast<unsigned>(state.multiprocessors)),
                .threads = 32 * kHalves * columns,
                .shared_bytes = static_cast<std::size_t>(bytes)},
               step, stages);
}

}  // namespace

void delta_mixer_step(Context& ctx, Tensor y, ops::DeltaMixerStates states, ops::DeltaMixerInputs in,
                      ops::Segments segments, ops::DeltaMixerOptions options) {
  if (y.count() == 0) return;
  if (!fits(states, in)) return ops::delta_mixer_step_in_parts(ctx, y, states, in, segments, options);
  visit_activation("delta_mixer_step", y.dtype, [&]<class T>() {
    const Step<T> step = make_step<T>(ctx, y, states, in, options);
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
