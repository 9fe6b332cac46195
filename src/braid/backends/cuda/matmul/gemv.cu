// Few rows on transposed bf16 weights (decode): c (M <= 8, N) = a (M, K) · bᵀ, b (N, K). Bound by reading b
// once. A block computes kOutputs columns; its threads share out k in packs of 8, so that all of a block's
// first loads are in flight together. An element's order of additions depends on K alone, not on M or N.
#include "braid/backends/cuda/device/math.cuh"
#include "braid/backends/cuda/launch.h"
#include "braid/backends/cuda/matmul/problem.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;

// Weights are read once: they pass by L1, which keeps `a`.
__device__ __forceinline__ uint4 load_streaming(const bf16* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

// The two bf16 of a word; the lower half comes first in memory.
__device__ __forceinline__ float low(unsigned word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float high(unsigned word) { return __uint_as_float(word & 0xffff0000U); }

// sum + w · x over 8 elements, in order.
__device__ __forceinline__ float dot(const uint4& w, const float (&x)[8], float sum) {
  sum = fmaf(low(w.x), x[0], sum);
  sum = fmaf(high(w.x), x[1], sum);
  sum = fmaf(low(w.y), x[2], sum);
  sum = fmaf(high(w.y), x[3], sum);
  sum = fmaf(low(w.z), x[4], sum);
  sum = fmaf(high(w.z), x[5], sum);
  sum = fmaf(low(w.w), x[6], sum);
  return fmaf(high(w.w), x[7], sum);
}

__device__ __forceinline__ void unpack(float (&x)[8], const uint4& v) {
  x[0] = low(v.x), x[1] = high(v.x), x[2] = low(v.y), x[3] = high(v.y);
  x[4] = low(v.z), x[5] = high(v.z), x[6] = low(v.w), x[7] = high(v.w);
}

// kRows >= rows: the rows above `rows` repeat the last one and are not stored. Likewise columns past the end.
template <int kRows, int kOutputs, class Out>
__global__ void __launch_bounds__(kThreads)
    gemv_kernel(Out* c, const bf16* a, const bf16* b, int rows, std::int64_t columns, std::int64_t inner,
                bool accumulate) {
  static_assert(kRows * kOutputs <= kThreads);
  __shared__ float partial[kWarps][kOutputs * kRows];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t n0 = std::int64_t{blockIdx.x} * kOutputs;
  const bf16* weights[kOutputs];
#pragma unroll
  for (int r = 0; r < kOutputs; ++r) weights[r] = b + min(n0 + r, columns - 1) * inner;

  float sum[kOutputs][kRows] = {};
  for (std::int64_t k = threadIdx.x * 8; k < inner; k += kThreads * 8) {
    uint4 w[kOutputs];
#pragma unroll
    for (int r = 0; r < kOutputs; ++r) w[r] = load_streaming(weights[r] + k);
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      float x[8];
      unpack(x, __ldg(reinterpret_cast<const uint4*>(a + min(m, rows - 1) * inner + k)));
#pragma unroll
      for (int r = 0; r < kOutputs; ++r) sum[r][m] = dot(w[r], x, sum[r][m]);
    }
  }
#pragma unroll
  for (int r = 0; r < kOutputs; ++r) {
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      const float total = warp_sum(sum[r][m]);
      if (lane == 0) partial[warp][r * kRows + m] = total;
    }
  }
  __syncthreads();
  const int t = static_cast<int>(threadIdx.x), m = t / kOutputs, r = t % kOutputs;
  if (m >= rows || n0 + r >= columns) return;  // m < rows <= kRows
  float total = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) total += partial[w][r * kRows + m];
  Out* at = c + m * columns + n0 + r;
  *at = from_float<Out>(accumulate ? to_float(*at) + total : total);
}

template <int kRows, int kOutputs, class Out>
void launch(const Context& ctx, const MatmulProblem& p, Tensor c, ConstTensor a, ConstTensor b) {
  gemv_kernel<kRows, kOutputs, Out>
      <<<static_cast<unsigned>(ceil_div(p.columns, kOutputs)), kThreads, 0, stream_of(ctx)>>>(
          pointer<Out>(c), pointer<bf16>(a), pointer<bf16>(b), static_cast<int>(p.rows), p.columns, p.inner,
          p.accumulate);
  check_launch("matmul");
}

// Fewer columns a block where accumulators would crowd out loads.
template <class Out>
void launch_rows(const Context& ctx, const MatmulProblem& p, Tensor c, ConstTensor a, ConstTensor b) {
  if (p.rows == 1) return launch<1, 8, Out>(ctx, p, c, a, b);
  if (p.rows == 2) return launch<2, 8, Out>(ctx, p, c, a, b);
  if (p.rows <= 4) return launch<4, 8, Out>(ctx, p, c, a, b);
  launch<8, 4, Out>(ctx, p, c, a, b);
}

}  // namespace

void matmul_gemv(const Context& ctx, const MatmulProblem& p, Tensor c, ConstTensor a, ConstTensor b) {
  if (p.out == DType::f32) return launch_rows<float>(ctx, p, c, a, b);
  launch_rows<bf16>(ctx, p, c, a, b);
}

}  // namespace braid::cuda
