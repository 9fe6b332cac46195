// Launches the backward pass on the tensor cores (backward_bf16.cuh).
#include "braid/backends/cuda/attention/backward_bf16.cuh"

namespace braid::cuda::flash {

void backward_bf16(Context& ctx, const ops::AttentionGradients& grads, ConstTensor dy,
                   const ops::AttentionInputs& in, const ops::AttentionOutputs& out, Tensor row_dot,
                   const Problem& p) {
  if (dy.count() == 0) return;
  const auto arguments = backward_arguments(grads, dy, in, out, row_dot);
  const auto tiles = most_tiles(p, kBackwardRows);
  const auto run = [&]<int kWidth>() {
    launch(ctx, backward_query_kernel<kWidth>, tiles * p.heads, kBackwardThreads, kQueryShared<kWidth>,
           arguments, p);
    launch(ctx, backward_key_kernel<kWidth>, tiles * p.kv_heads, kBackwardThreads, kKeyShared<kWidth>,
           arguments, p);
  };
  if (p.width <= 64) {
    run.template operator()<64>();
  } else {
    run.template operator()<128>();
  }
}

}  // namespace braid::cuda::flash
