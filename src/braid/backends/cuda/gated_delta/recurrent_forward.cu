#include "braid/backends/cuda/gated_delta/tile.cuh"

namespace braid::cuda::recurrent {
namespace {

using namespace delta;

// One block walks through a segment with its columns of one head's state; the next token's loads are under
// way while a token is applied.
template <int kRows, int kColumns, class T>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(T* y, T* checkpoints, const float* initial, float* final, Problem<T> p) {
  __shared__ float shared[2][kSumFloats<kColumns>];
  const Place at(p, static_cast<std::int32_t>(blockIdx.x), kColumns);
  float state[kRows][kColumns];
  load_tile(state, matrix_of(initial, at.segment, p.heads, at), at);
  const std::int64_t begin = p.offsets[at.segment], end = p.offsets[at.segment + 1];
  Token<kRows, kColumns> token, next;
  if (begin < end) next.load(p, begin, at);
  for (std::int64_t n = begin; n < end; ++n) {
    token = next;
    if (n + 1 < end) next.load(p, n + 1, at);
    const std::int64_t into_segment = n - begin;
    if (checkpoints != nullptr && into_segment % ops::kDeltaChunk == 0) {
      const auto slot = ops::delta_chunk_slot(at.segment, begin) + into_segment / ops::kDeltaChunk;
      store_tile(matrix_of(checkpoints, slot, p.heads, at), state, at);
    }
    float read[kColumns];
    advance(state, token, p.scale, shared[into_segment % 2], read);
    if (at.group == 0) store_columns(y + p.value_row(n, at.head), read, at);
  }
  if (final != nullptr) store_tile(matrix_of(final, at.segment, p.heads, at), state, at);
}

}  // namespace

void forward(Context& ctx, Tensor y, Tensor checkpoints, ops::GatedDeltaStates states,
             ops::GatedDeltaInputs in, ops::Segments segments, double scale) {
  visit_activation("gated_delta_forward", in.v.dtype, [&]<class T>() {
    visit_tile(in.k.shape[2], in.v.shape[2], [&]<int kRows, int kColumns>() {
      const auto problem = make_problem<T>(in, segments, scale, kColumns);
      if (problem.tasks() == 0) return;
      forward_kernel<kRows, kColumns, T>
          <<<static_cast<unsigned>(problem.tasks()), kThreads, 0, stream_of(ctx)>>>(
              pointer<T>(y), pointer<T>(checkpoints), pointer<float>(states.initial),
              pointer<float>(states.final), problem);
      check_launch("gated_delta_forward");
    });
  });
}

}  // namespace braid::cuda::recurrent
