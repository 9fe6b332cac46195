// The plain product: any sizes, transposes and alignment, each element summed in the order of k.
#include "braid/backends/cuda/device/math.cuh"
#include "braid/backends/cuda/launch.h"
#include "braid/backends/cuda/matmul/problem.h"

namespace braid::cuda {
namespace {

constexpr int kTile = 64, kDepth = 16, kThreads = 256;
constexpr int kEach = 4;  // a thread computes kEach x kEach elements

// Element (i, k) of a transposed or plain operand is at i * step_i + k * step_k.
struct Operand {
  std::int64_t size, step_i, step_k;
};

// Loads tile[k][i] for k in [k0, k0 + kDepth), i in [i0, i0 + kTile); zeros outside. Neighbouring threads
// read neighbouring addresses.
template <class T>
__device__ __forceinline__ void load_tile(float (*tile)[kTile + 1], const T* x, const Operand& o,
                                          std::int64_t i0, std::int64_t k0, std::int64_t inner) {
#pragma unroll
  for (int at = 0; at < kTile * kDepth; at += kThreads) {
    const int flat = at + static_cast<int>(threadIdx.x);
    const int i = o.step_i == 1 ? flat % kTile : flat / kDepth;
    const int k = o.step_i == 1 ? flat / kTile : flat % kDepth;
    const bool inside = i0 + i < o.size && k0 + k < inner;
    tile[k][i] = inside ? to_float(x[(i0 + i) * o.step_i + (k0 + k) * o.step_k]) : 0.0F;
  }
}

template <class In, class Out>
__global__ void __launch_bounds__(kThreads) tiled_kernel(Out* c, const Out* before, const In* a, const In* b,
                                                         Operand oa, Operand ob, std::int64_t inner) {
  __shared__ float tile_a[kDepth][kTile + 1], tile_b[kDepth][kTile + 1];
  const std::int64_t tiles_n = (ob.size + kTile - 1) / kTile;
  const std::int64_t m0 = blockIdx.x / tiles_n * kTile, n0 = blockIdx.x % tiles_n * kTile;
  // Thread (tm, tn) computes rows tm + 16 i and columns tn + 16 j.
  const int tm = static_cast<int>(threadIdx.x) / 16, tn = static_cast<int>(threadIdx.x) % 16;
  float sum[kEach][kEach] = {};
  for (std::int64_t k0 = 0; k0 < inner; k0 += kDepth) {
    load_tile(tile_a, a, oa, m0, k0, inner);
    load_tile(tile_b, b, ob, n0, k0, inner);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float left[kEach], right[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) left[i] = tile_a[k][tm + 16 * i], right[i] = tile_b[k][tn + 16 * i];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
#pragma unroll
        for (int j = 0; j < kEach; ++j) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const std::int64_t m = m0 + tm + 16 * i, n = n0 + tn + 16 * j;
      if (m >= oa.size || n >= ob.size) continue;
      const std::int64_t at = m * ob.size + n;
      c[at] = from_float<Out>(before != nullptr ? to_float(before[at]) + sum[i][j] : sum[i][j]);
    }
  }
}

template <class In, class Out>
void launch(const Context& ctx, const MatmulProblem& p, const MatmulOperands& o) {
  const Operand oa{p.rows, p.transpose_a ? 1 : p.inner, p.transpose_a ? p.rows : 1};
  const Operand ob{p.columns, p.transpose_b ? p.inner : 1, p.transpose_b ? 1 : p.columns};
  const std::int64_t blocks = ceil_div(p.rows, kTile) * ceil_div(p.columns, kTile);
  require(blocks < (std::int64_t{1} << 31), "matmul: c {} is too large for the tiled kernel", describe(o.c));
  tiled_kernel<In, Out><<<static_cast<unsigned>(blocks), kThreads, 0, stream_of(ctx)>>>(
      pointer<Out>(o.c), pointer<Out>(o.before), pointer<In>(o.a), pointer<In>(o.b), oa, ob, p.inner);
  check_launch("matmul");
}

}  // namespace

void matmul_tiled(const Context& ctx, const MatmulProblem& p, const MatmulOperands& o) {
  if (p.in == DType::f32) return launch<float, float>(ctx, p, o);
  if (p.out == DType::f32) return launch<bf16, float>(ctx, p, o);
  launch<bf16, bf16>(ctx, p, o);
}

}  // namespace braid::cuda
