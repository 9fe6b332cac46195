#include <cmath>
#include <limits>

#include "braid/backends/cuda/device/elements.cuh"
#include "braid/backends/cuda/device/store_whole.cuh"
#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/launch.h"
#include "braid/ops/optimizer.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256, kVector = 4;
constexpr std::int64_t kNormBlock = 16 * kThreads;  // elements per block and stride of the norm

__device__ __forceinline__ std::int64_t thread_of_grid() {
  return std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
}
__device__ __forceinline__ std::int64_t threads_of_grid() { return std::int64_t{gridDim.x} * kThreads; }

// Sum over a block, in thread 0.
__device__ double block_total(double x) {
  __shared__ double warps[kThreads / 32];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffU, x, step);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();
  double total = 0;
  for (const double w : warps) total += w;
  return total;
}

// sums[block] = Σ g² over a block's share. In double, where no f32 overflows.
__global__ void __launch_bounds__(kThreads, 8)
    squares_kernel(double* sums, const float* __restrict__ g, std::int64_t count) {
  const auto square = [](float x) { return static_cast<double>(x) * static_cast<double>(x); };
  const std::int64_t whole = count / kVector;
  double sum = 0;
#pragma unroll 4
  for (std::int64_t i = thread_of_grid(); i < whole; i += threads_of_grid()) {
    const auto v = load_constant<kVector>(g + i * kVector);
    sum += (square(v[0]) + square(v[1])) + (square(v[2]) + square(v[3]));
  }
  const std::int64_t last = whole * kVector + thread_of_grid();
  if (last < count) sum += square(g[last]);
  const double total = block_total(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

__global__ void __launch_bounds__(kThreads)
    norm_kernel(float* result, const double* __restrict__ sums, std::int64_t count, double max_norm) {
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) sum += sums[i];
  const double norm = sqrt(block_total(sum));
  if (threadIdx.x != 0) return;
  const bool finite = isfinite(static_cast<float>(norm));
  result[0] = finite ? static_cast<float>(norm) : __int_as_float(0x7fffffff);
  result[1] = !finite                           ? __int_as_float(0x7fffffff)
              : max_norm > 0 && norm > max_norm ? static_cast<float>(max_norm / norm)
                                                : 1.0F;
}

// Blocks follow from the shape and the device alone, and so do the sum's order and its bits.
Tensor make_gradient_norm_scratch(Context& ctx, const ConstTensor& gradients) {
  const std::int64_t blocks = gradients.count() == 0 ? 0 : grid_for(ctx, gradients.count(), kNormBlock);
  return ctx.scratch->make(DType::f64, {blocks});
}

// Moments that have decayed below this become zero, as on the cpu backend.
constexpr float kNoMoment = 1e-36F;
__device__ __forceinline__ float flush(float x) { return fabsf(x) < kNoMoment ? 0.0F : x; }

struct AdamW {
  float *parameters, *first, *second;
  bf16* copy;                               // or null
  const float *gradients, *norm_and_scale;  // the latter or null
  std::int64_t count, whole;                // elements, and those of them that are moved by vectors
  float decay, rate, correction, beta1, rest1, beta2, rest2, epsilon;

  template <int kN>
  __device__ __forceinline__ void update(std::int64_t at, float scale) const {
    auto p = load<kN>(parameters + at), m = load<kN>(first + at), v = load<kN>(second + at);
    const auto gradient = load_constant<kN>(gradients + at);
    Elements<bf16, kN> rounded;
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      const float g = gradient[i] * scale;
      m.set(i, flush(fmaf(beta1, m[i], rest1 * g)));
      v.set(i, flush(fmaf(beta2, v[i], rest2 * (g * g))));
      p.set(i, fmaf(p[i], decay, -(rate * m[i] / fmaf(sqrtf(v[i]), correction, epsilon))));
      rounded.set(i, p[i]);
    }
    store<kN>(parameters + at, p);
    store<kN>(first + at, m);
    store<kN>(second + at, v);
    if (copy != nullptr) store_whole<kN>(copy + at, rounded);
  }
};

__global__ void __launch_bounds__(kThreads) adamw_kernel(const AdamW a) {
  const float scale = a.norm_and_scale != nullptr ? a.norm_and_scale[1] : 1.0F;
  if (isnan(scale)) return;
  for (std::int64_t i = thread_of_grid() * kVector; i < a.whole; i += threads_of_grid() * kVector) {
    a.update<kVector>(i, scale);
  }
  for (std::int64_t i = a.whole + thread_of_grid(); i < a.count; i += threads_of_grid())
    a.update<1>(i, scale);
}

}  // namespace

void gradient_norm(Context& ctx, Tensor result, ConstTensor gradients, double max_norm) {
  require(gradients.dtype == DType::f32, "gradient_norm: gradients is {}, cuda supports f32",
          describe(gradients));
  const Arena::Scope scope(*ctx.scratch);
  const Tensor sums = make_gradient_norm_scratch(ctx, gradients);
  if (sums.count() > 0) {
    squares_kernel<<<static_cast<unsigned>(sums.count()), kThreads, 0, stream_of(ctx)>>>(
        pointer<double>(sums), pointer<float>(gradients), gradients.count());
    check_launch();
  }
  norm_kernel<<<1, kThreads, 0, stream_of(ctx)>>>(pointer<float>(result), pointer<double>(sums), sums.count(),
                                                  max_norm);
  check_launch();
}

void scratch::gradient_norm(Context& ctx, Tensor, ConstTensor gradients, double) {
  const Arena::Scope scope(*ctx.scratch);
  make_gradient_norm_scratch(ctx, gradients);
}

void adamw(Context& ctx, ops::AdamWState state, ConstTensor gradients, ConstTensor norm_and_scale,
           ops::AdamWOptions options) {
  require(gradients.dtype == DType::f32, "adamw: gradients is {}, cuda supports f32", describe(gradients));
  if (gradients.count() == 0) return;
  const auto number = [](double x) { return static_cast<float>(x); };
  const auto step = static_cast<double>(options.step);
  const AdamW a{.parameters = pointer<float>(state.parameters),
                .first = pointer<float>(state.first_moment),
                .second = pointer<float>(state.second_moment),
                .copy = pointer<bf16>(state.copy),
                .gradients = pointer<float>(gradients),
                .norm_and_scale = pointer<float>(norm_and_scale),
                .count = gradients.count(),
                .whole = gradients.count() / kVector * kVector,
                .decay = number(1 - options.learning_rate * options.weight_decay),
                .rate = number(options.learning_rate / (1 - std::pow(options.beta1, step))),
                .correction = number(1 / std::sqrt(1 - std::pow(options.beta2, step))),
                .beta1 = number(options.beta1),
                .rest1 = number(1 - options.beta1),
                .beta2 = number(options.beta2),
                .rest2 = number(1 - options.beta2),
                .epsilon = number(options.epsilon)};
  adamw_kernel<<<grid_for(ctx, a.count, kThreads * kVector, 64), kThreads, 0, stream_of(ctx)>>>(a);
  check_launch();
}

}  // namespace braid::cuda
