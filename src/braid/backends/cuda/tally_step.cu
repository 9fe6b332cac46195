#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/launch.h"
#include "braid/ops/tally_step.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kBlock = 4 * kThreads;  // tokens

// Sum over a block, in thread 0. `shared` holds a value for each warp.
__device__ __forceinline__ double block_total(double x, double* shared) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffU, x, step);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  double total = 0;
  for (int warp = 0; warp < kThreads / 32; ++warp) total += shared[warp];
  return total;
}

// sums (blocks, 2) of a block's tokens.
__global__ void __launch_bounds__(kThreads)
    sum_kernel(double2* sums, const float* __restrict__ loss, const float* __restrict__ log_sum_exp,
               std::int64_t count) {
  __shared__ double shared[2][kThreads / 32];
  double sum = 0, squares = 0;
  const std::int64_t begin = blockIdx.x * kBlock, end = min(begin + kBlock, count);
  for (std::int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    const double lse = log_sum_exp[i];
    sum += loss[i];
    squares += lse * lse;
  }
  const double total = block_total(sum, shared[0]), total_squares = block_total(squares, shared[1]);
  if (threadIdx.x == 0) sums[blockIdx.x] = make_double2(total, total_squares);
}

__global__ void __launch_bounds__(kThreads)
    enter_kernel(double* tally, float* clip, const double2* __restrict__ sums, std::int64_t blocks,
                 const float* __restrict__ norm_and_scale, const double* __restrict__ scale) {
  __shared__ double shared[2][kThreads / 32];
  double sum = 0, squares = 0;
  for (std::int64_t i = threadIdx.x; i < blocks; i += kThreads) {
    sum += sums[i].x;
    squares += sums[i].y;
  }
  sum = block_total(sum, shared[0]);
  squares = block_total(squares, shared[1]);
  if (threadIdx.x != 0) return;
  clip[0] = clip[1] = __int_as_float(0x7fffffff);
  if (tally[ops::kTallyFailedStep] != 0) return;
  const double norm = norm_and_scale[0], loss = sum * *scale, steps = tally[ops::kTallySteps] + 1;
  tally[ops::kTallyLoss] = loss;
  tally[ops::kTallyZLoss] = squares * *scale;
  tally[ops::kTallyGradientNorm] = norm;
  tally[ops::kTallySteps] = steps;
  if (!isfinite(sum) || !isfinite(norm)) {
    tally[ops::kTallyFailedStep] = steps;
    return;
  }
  tally[ops::kTallyLossSum] += loss;
  clip[0] = norm_and_scale[0];
  clip[1] = norm_and_scale[1];
}

Tensor make_tally_scratch(Context& ctx, const ConstTensor& loss) {
  return ctx.scratch->make(DType::f64, {ceil_div(loss.count(), kBlock), 2});
}

}  // namespace

void tally_step(Context& ctx, Tensor tally, Tensor clip, ops::StepLosses losses, ConstTensor norm_and_scale,
                ConstTensor scale) {
  require(losses.loss.dtype == DType::f32, "tally_step: loss is {}, cuda supports f32",
          describe(losses.loss));
  const Arena::Scope scope(*ctx.scratch);
  const Tensor sums = make_tally_scratch(ctx, losses.loss);
  const auto blocks = sums.shape[0];
  auto* partial = static_cast<double2*>(sums.mutable_data());
  if (blocks > 0) {
    sum_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream_of(ctx)>>>(
        partial, pointer<float>(losses.loss), pointer<float>(losses.log_sum_exp), losses.loss.count());
    check_launch();
  }
  enter_kernel<<<1, kThreads, 0, stream_of(ctx)>>>(pointer<double>(tally), pointer<float>(clip), partial,
                                                   blocks, pointer<float>(norm_and_scale),
                                                   pointer<double>(scale));
  check_launch();
}

void scratch::tally_step(Context& ctx, Tensor, Tensor, ops::StepLosses losses, ConstTensor, ConstTensor) {
  const Arena::Scope scope(*ctx.scratch);
  make_tally_scratch(ctx, losses.loss);
}

}  // namespace braid::cuda
