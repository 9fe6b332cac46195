#include "braid/backends/cuda/column_sums.h"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda {
namespace {

constexpr int kStrands = 32;  // warps of a block; strand s adds rows s, s + 32, …

// One column per lane.
__global__ void __launch_bounds__(32 * kStrands)
    column_sums_kernel(float* out, const float* __restrict__ sums, std::int64_t rows, std::int64_t width,
                       std::int64_t columns) {
  __shared__ float strands[kStrands][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, strand = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t c = std::int64_t{blockIdx.x} * 32 + lane;
  float sum = 0;
  if (c < columns) {
#pragma unroll 4
    for (std::int64_t r = strand; r < rows; r += kStrands) sum += sums[r * width + c];
  }
  strands[strand][lane] = sum;
  __syncthreads();
  if (strand != 0 || c >= columns) return;
  float total = 0;
#pragma unroll
  for (int s = 0; s < kStrands; ++s) total += strands[s][lane];
  out[c] += total;
}

}  // namespace

void add_column_sums(Context& ctx, const Tensor& out, const ConstTensor& sums, std::int64_t first) {
  if (out.count() == 0 || sums.count() == 0) return;
  const auto blocks = static_cast<unsigned>(ceil_div(out.count(), 32));
  column_sums_kernel<<<blocks, 32 * kStrands, 0, stream_of(ctx)>>>(
      pointer<float>(out), pointer<float>(sums) + first, sums.shape[0], sums.shape[1], out.count());
  check_launch();
}

}  // namespace braid::cuda
