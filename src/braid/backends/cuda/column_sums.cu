#include "braid/backends/cuda/column_sums.h"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda {
namespace {

constexpr int kStrands = 32;  // warps of a block; strand s adds rows s, s + 32, …
constexpr int kAhead = 16;    // rows that a strand has on their way

struct Outputs {
  float* data[2];
  std::int64_t widths[2];
};

// One column per lane.
__global__ void __launch_bounds__(32 * kStrands)
    column_sums_kernel(Outputs out, const float* __restrict__ sums, std::int64_t rows, std::int64_t width) {
  __shared__ float strands[kStrands][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, strand = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t c = std::int64_t{blockIdx.x} * 32 + lane;
  const bool inside = c < out.widths[0] + out.widths[1];
  float* const to = c < out.widths[0] ? out.data[0] + c : out.data[1] + (c - out.widths[0]);
  float before = 0;
  if (strand == 0 && inside) before = *to;
  float sum = 0;
  for (std::int64_t first = strand; first < rows; first += kStrands * kAhead) {
    float x[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const std::int64_t r = first + i * kStrands;
      x[i] = inside && r < rows ? sums[r * width + c] : 0.0F;
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) sum += x[i];
  }
  strands[strand][lane] = sum;
  __syncthreads();
  if (strand != 0 || !inside) return;
  float total = 0;
#pragma unroll
  for (int s = 0; s < kStrands; ++s) total += strands[s][lane];
  *to = before + total;
}

void add(Context& ctx, const Outputs& out, const ConstTensor& sums) {
  const auto columns = out.widths[0] + out.widths[1];
  if (columns == 0 || sums.count() == 0) return;
  column_sums_kernel<<<static_cast<unsigned>(ceil_div(columns, 32)), 32 * kStrands, 0, stream_of(ctx)>>>(
      out, pointer<float>(sums), sums.shape[0], sums.shape[1]);
  check_launch();
}

}  // namespace

void add_column_sums(Context& ctx, const Tensor& out, const ConstTensor& sums) {
  add(ctx, {{pointer<float>(out), nullptr}, {out.count(), 0}}, sums);
}

void add_column_sums(Context& ctx, const Tensor& first, const Tensor& second, const ConstTensor& sums) {
  add(ctx, {{pointer<float>(first), pointer<float>(second)}, {first.count(), second.count()}}, sums);
}

}  // namespace braid::cuda
