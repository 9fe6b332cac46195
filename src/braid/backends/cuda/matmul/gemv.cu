// Few rows on transposed bf16 weights (decode): c (M <= 8, N) = a (M, K) · bᵀ, b (N, K), for several b at
// once; or, gated, c = silu(a · gateᵀ) ⊙ a · upᵀ with b (2N, K) holding gate then up. Bound by reading b
// once. A block takes kOutputs rows of b; its threads share out k in packs of 8, so that all of a block's
// first loads are in flight together. An element's order of additions depends on K alone, not on M or N.
#include "braid/backends/cuda/matmul/streamed.cuh"

namespace braid::cuda {
namespace {

using namespace streamed;

constexpr int kThreads = 128, kWarps = kThreads / 32;

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
template <int kRows, int kOutputs, bool kGated>
__global__ void __launch_bounds__(kThreads)
    gemv_kernel(__grid_constant__ const Parts parts, const bf16* a, int rows, std::int64_t inner) {
  static_assert(kRows * kOutputs <= kThreads);
  constexpr int kColumns = kGated ? kOutputs / 2 : kOutputs;  // of c
  __shared__ float partial[kWarps][kOutputs * kRows];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const Part& part = parts.of_block(static_cast<std::int32_t>(blockIdx.x));
  const std::int64_t columns = part.columns, n0 = (std::int64_t{blockIdx.x} - part.first_block) * kColumns;
  const bf16* weights[kOutputs];
#pragma unroll
  for (int r = 0; r < kOutputs; ++r) {
    const std::int64_t row = min(n0 + r % kColumns, columns - 1);
    weights[r] = part.b + (r < kColumns ? row : columns + row) * inner;
  }
  begin_early();

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
  const int t = static_cast<int>(threadIdx.x), m = t / kColumns, column = t % kColumns;
  if (m >= rows || n0 + column >= columns) return;  // m < rows <= kRows
  const auto total = [&](int r) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += partial[w][r * kRows + m];
    return sum;
  };
  const std::int64_t at = m * columns + n0 + column;
  if constexpr (kGated) {
    part.finish_gated(at, total(column), total(column + kColumns));
  } else {
    part.finish(at, total(column));
  }
}

template <int kRows, int kOutputs, bool kGated>
void launch(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> operands) {
  std::int64_t blocks = 0;
  const Parts parts = make_parts(operands, kGated ? kOutputs / 2 : kOutputs, blocks);
  launch_early(ctx, "matmul", gemv_kernel<kRows, kOutputs, kGated>,
               {dim3(static_cast<unsigned>(blocks)), kThreads}, parts, pointer<bf16>(operands[0].a),
               static_cast<int>(p.rows), p.inner);
}

// Fewer columns a block where accumulators would crowd out loads.
template <bool kGated>
void launch(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> operands) {
  if (p.rows == 1) return launch<1, 4, kGated>(ctx, p, operands);
  if (p.rows == 2) return launch<2, 8, kGated>(ctx, p, operands);
  if (p.rows <= 4) return launch<4, 8, kGated>(ctx, p, operands);
  launch<8, 4, kGated>(ctx, p, operands);
}

}  // namespace

void matmul_gemv(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> operands) {
  launch<false>(ctx, p, operands);
}

void swiglu_gemv(const Context& ctx, const MatmulProblem& p, const MatmulOperands& operands) {
  launch<true>(ctx, p, {&operands, 1});
}

}  // namespace braid::cuda
