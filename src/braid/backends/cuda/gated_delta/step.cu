// Decoding: every state is read and written once, so the floor is 2 · 4 · Dk · Dv bytes a head over the
// bandwidth.
#include "braid/backends/cuda/gated_delta/tile.cuh"

namespace braid::cuda::step {
namespace {

using namespace delta;

// Keeps 8 blocks, about 100 KB of loads, in flight on a multiprocessor where the tile is small enough.
constexpr int blocks_wanted(int rows) { return rows <= 6 ? 8 : 1; }

template <int kRows, int kColumns, class T>
__global__ void __launch_bounds__(kThreads, blocks_wanted(kRows))
    forward_kernel(T* y, const float* initial, float* final, Problem<T> p) {
  __shared__ float shared[2][kSumFloats<kColumns>];
  const Place at(p, static_cast<std::int32_t>(blockIdx.x), kColumns);
  float state[kRows][kColumns];
  load_tile(state, matrix_of(initial, at.segment, p.heads, at), at);
  const std::int64_t begin = p.offsets[at.segment], end = p.offsets[at.segment + 1];
  for (std::int64_t n = begin; n < end; ++n) {
    Token<kRows, kColumns> token;
    token.load(p, n, at);
    float read[kColumns];
    advance(state, token, p.scale, shared[(n - begin) % 2], read);
    if (at.group == 0) store_columns(y + p.value_row(n, at.head), read, at);
  }
  if (final != nullptr) store_tile(matrix_of(final, at.segment, p.heads, at), state, at);
}

}  // namespace

void forward(Context& ctx, Tensor y, ops::GatedDeltaStates states, ops::GatedDeltaInputs in,
             ops::Segments segments, double scale) {
  visit_activation("gated_delta_forward", in.v.dtype, [&]<class T>() {
    visit_tile(in.k.shape[2], in.v.shape[2], [&]<int kRows, int kColumns>() {
      const auto problem = make_problem<T>(in, segments, scale, kColumns);
      if (problem.tasks() == 0) return;
      forward_kernel<kRows, kColumns, T>
          <<<static_cast<unsigned>(problem.tasks()), kThreads, 0, stream_of(ctx)>>>(
              pointer<T>(y), pointer<float>(states.initial), pointer<float>(states.final), problem);
    });
  });
  check_launch("gated_delta_forward");
}

}  // namespace braid::cuda::step
