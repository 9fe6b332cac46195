#include "braid/backends/cuda/gated_delta/gradient_chunk.cuh"
#include "braid/backends/cuda/gated_delta/launch_kernel.cuh"

namespace braid::cuda::chunked {
namespace {

constexpr int kSumThreads = 256;

__global__ void __launch_bounds__(kSumThreads)
    sum_groups_kernel(bf16* sum, const float* parts, std::int64_t count, int group, int width) {
  for (std::int64_t i = std::int64_t{blockIdx.x} * kSumThreads + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * kSumThreads) {
    const std::int64_t row = i / width, column = i % width;
    float total = 0;
    for (int part = 0; part < group; ++part) total += parts[(row * group + part) * width + column];
    sum[i] = from_float<bf16>(total);
  }
}

}  // namespace

void gradient(Context& ctx, const Problem& p, const Inputs& in, const Chunks& chunks,
              const GradientInputs& from, const Gradients& out) {
  const auto units = static_cast<unsigned>(p.slots * p.value_heads);
  if (units == 0) return;
  visit_padded_width(p.key_width, [&]<int kWidth>() {
    launch_kernel(ctx, gradient_kernel<kWidth>, units, kGradientThreads, GradientLayout<kWidth>::kBytes, p,
                  in, chunks, from, out);
  });
}

void sum_groups(Context& ctx, bf16* sum, const float* parts, std::int64_t rows, int group, int width) {
  const std::int64_t count = rows * width;
  if (count == 0) return;
  launch_kernel(ctx, sum_groups_kernel, grid_for(ctx, count, kSumThreads), kSumThreads, 0, sum, parts, count,
                group, width);
}

}  // namespace braid::cuda::chunked
