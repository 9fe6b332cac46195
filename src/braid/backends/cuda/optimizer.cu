#include <span>

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

// Parts of one launch: as many as 4 KiB of arguments hold.
constexpr int kMostParts = 60;
constexpr std::int64_t kTile = 4 * kThreads * kVector;  // elements of a block

struct AdamWPart {
  float *parameters, *first, *second;
  const float* gradients;
  bf16* copy;  // or null
  std::int64_t count;
  double weight_decay;
  std::int32_t first_tile;
};
struct AdamW {
  AdamWPart parts[kMostParts];
  int count;
  const float* norm_and_scale;  // or null
  const double* rates;
  float beta1, rest1, beta2, rest2, epsilon;
};
static_assert(sizeof(AdamW) < 4096);

struct Rates {
  float decay, rate, correction;
};

template <int kN>
__device__ __forceinline__ void update(const AdamW& a, const AdamWPart& part, const Rates& r, std::int64_t at,
                                       float scale) {
  auto p = load<kN>(part.parameters + at), m = load<kN>(part.first + at), v = load<kN>(part.second + at);
  const auto gradient = load_constant<kN>(part.gradients + at);
  Elements<bf16, kN> rounded;
#pragma unroll
  for (int i = 0; i < kN; ++i) {
    const float g = gradient[i] * scale;
    m.set(i, flush(fmaf(a.beta1, m[i], a.rest1 * g)));
    v.set(i, flush(fmaf(a.beta2, v[i], a.rest2 * (g * g))));
    p.set(i, fmaf(p[i], r.decay, -(r.rate * m[i] / fmaf(sqrtf(v[i]), r.correction, a.epsilon))));
    rounded.set(i, p[i]);
  }
  store<kN>(part.parameters + at, p);
  store<kN>(part.first + at, m);
  store<kN>(part.second + at, v);
  if (part.copy != nullptr) store_whole<kN>(part.copy + at, rounded);
}

// The last part whose first tile is not after `tile`.
__device__ __forceinline__ int part_of(const AdamW& a, std::int32_t tile) {
  int low = 0, high = a.count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (a.parts[middle].first_tile <= tile ? low : high) = middle;
  }
  return low;
}

// A block to a tile of some part.
__global__ void __launch_bounds__(kThreads) adamw_kernel(const __grid_constant__ AdamW a) {
  __shared__ Rates shared;
  const auto tile = static_cast<std::int32_t>(blockIdx.x);
  const AdamWPart& part = a.parts[part_of(a, tile)];
  if (threadIdx.x == 0) {
    const double rate = a.rates[0];
    shared = {static_cast<float>(1 - rate * part.weight_decay), static_cast<float>(rate / a.rates[1]),
              static_cast<float>(1 / sqrt(a.rates[2]))};
  }
  const float scale = a.norm_and_scale != nullptr ? a.norm_and_scale[1] : 1.0F;
  __syncthreads();
  if (isnan(scale)) return;
  const Rates rates = shared;
  const std::int64_t begin = std::int64_t{tile - part.first_tile} * kTile;
  const std::int64_t end = min(begin + kTile, part.count);
  const std::int64_t whole = end / kVector * kVector;  // moved by vectors
  for (std::int64_t i = begin + threadIdx.x * kVector; i < whole; i += kThreads * kVector) {
    update<kVector>(a, part, rates, i, scale);
  }
  if (whole + threadIdx.x < end) update<1>(a, part, rates, whole + threadIdx.x, scale);
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

void adamw(Context& ctx, std::span<const ops::AdamWPart> parts, ConstTensor norm_and_scale, ConstTensor rates,
           ops::AdamWOptions options) {
  const auto number = [](double x) { return static_cast<float>(x); };
  AdamW a{.parts = {},
          .count = 0,
          .norm_and_scale = pointer<float>(norm_and_scale),
          .rates = pointer<double>(rates),
          .beta1 = number(options.beta1),
          .rest1 = number(1 - options.beta1),
          .beta2 = number(options.beta2),
          .rest2 = number(1 - options.beta2),
          .epsilon = number(options.epsilon)};
  std::int64_t tiles = 0;
  const auto launch = [&] {
    if (a.count == 0) return;
    adamw_kernel<<<static_cast<unsigned>(tiles), kThreads, 0, stream_of(ctx)>>>(a);
    check_launch();
    a.count = 0;
    tiles = 0;
  };
  for (const auto& part : parts) {
    require(part.gradients.dtype == DType::f32, "adamw: gradients is {}, cuda supports f32",
            describe(part.gradients));
    const auto count = part.gradients.count();
    if (count == 0) continue;
    a.parts[a.count++] = {.parameters = pointer<float>(part.parameters),
                          .first = pointer<float>(part.first_moment),
                          .second = pointer<float>(part.second_moment),
                          .gradients = pointer<float>(part.gradients),
                          .copy = pointer<bf16>(part.copy),
                          .count = count,
                          .weight_decay = part.weight_decay,
                          .first_tile = static_cast<std::int32_t>(tiles)};
    tiles += ceil_div(count, kTile);
    if (a.count == kMostParts) launch();
  }
  launch();
}

}  // namespace braid::cuda
