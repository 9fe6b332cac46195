#include "braid/backends/cuda/column_sums.h"
#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/gates.cuh"
#include "braid/backends/cuda/device/math.cuh"
#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostBlocks = 256;  // of backward, along the tokens

// ab comes from the kernel before, whose end is only waited for inside: it is no constant (__restrict__).
__global__ void __launch_bounds__(kThreads)
    forward_kernel(float* log_decay, float* beta, const float* ab, const float* __restrict__ a_log,
                   const float* __restrict__ dt_bias, std::int64_t count, int heads, float beta_scale) {
  begin_early();
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += stride) {
    const std::int64_t n = i / heads, h = i % heads;
    const float a = ab[n * 2 * heads + h], b = ab[n * 2 * heads + heads + h];
    log_decay[i] = log_decay_of(a, a_log[h], dt_bias[h]);
    beta[i] = beta_scale * exact_sigmoid(b);
  }
}

template <class T>
struct Backward {
  T* dab;
  float* sums;  // (blocks, 2H): parts of da_log, then of ddt_bias
  const float *dlog_decay, *dbeta, *ab, *a_log, *dt_bias;
  std::int64_t tokens, block;  // block: tokens of one block
  int heads;
  float beta_scale;
};

// Blocks along x share out the tokens, along y the heads, at most kThreads of them. A thread keeps one head
// and takes every strands-th token; the strands are added in order.
template <class T>
__global__ void __launch_bounds__(kThreads) backward_kernel(Backward<T> p) {
  __shared__ float parts[2][kThreads];
  const int H = p.heads, first = static_cast<int>(blockIdx.y) * kThreads, width = min(H - first, kThreads);
  const int strands = kThreads / width, strand = static_cast<int>(threadIdx.x) / width;
  const int h = first + static_cast<int>(threadIdx.x) % width;
  const float rate = expf(p.a_log[h]), bias = p.dt_bias[h];
  const std::int64_t begin = std::int64_t{blockIdx.x} * p.block, end = min(begin + p.block, p.tokens);
  float da_log = 0, ddt_bias = 0;
  if (strand < strands) {
    for (std::int64_t n = begin + strand; n < end; n += strands) {
      const float z = p.ab[n * 2 * H + h] + bias, s = exact_sigmoid(p.ab[n * 2 * H + H + h]);
      const float dstep = -p.dlog_decay[n * H + h] * rate, dz = dstep * exact_sigmoid(z);
      p.dab[n * 2 * H + h] = from_float<T>(dz);
      p.dab[n * 2 * H + H + h] = from_float<T>(p.dbeta[n * H + h] * p.beta_scale * s * (1.0F - s));
      da_log += dstep * softplus(z);
      ddt_bias += dz;
    }
  }
  parts[0][threadIdx.x] = da_log;
  parts[1][threadIdx.x] = ddt_bias;
  __syncthreads();
  if (strand != 0) return;
  float total[2] = {};
#pragma unroll 8
  for (int s = 0; s < strands; ++s) {
    for (int i = 0; i < 2; ++i) total[i] += parts[i][s * width + static_cast<int>(threadIdx.x)];
  }
  float* row = p.sums + std::int64_t{blockIdx.x} * 2 * H;
  row[h] = total[0];
  row[H + h] = total[1];
}

constexpr std::int64_t block_of(std::int64_t tokens) {
  return std::max<std::int64_t>(32, ceil_div(tokens, kMostBlocks));
}
Tensor make_backward_scratch(Context& ctx, std::int64_t tokens, std::int64_t heads) {
  return ctx.scratch->make(DType::f32, {ceil_div(tokens, block_of(tokens)), 2 * heads});
}

}  // namespace

void delta_gates_forward(Context& ctx, Tensor log_decay, Tensor beta, ops::DeltaGateInputs in,
                         ops::DeltaGateOptions options) {
  require(in.ab.dtype == DType::f32, "delta_gates_forward: ab is {}: expected f32 on cuda", describe(in.ab));
  const auto count = beta.count();
  if (count == 0) return;
  launch_early(ctx, "delta_gates_forward", forward_kernel, {dim3(grid_for(ctx, count, kThreads)), kThreads},
               pointer<float>(log_decay), pointer<float>(beta), pointer<float>(in.ab),
               pointer<float>(in.a_log), pointer<float>(in.dt_bias), count, static_cast<int>(beta.shape[1]),
               static_cast<float>(options.beta_scale));
}

void delta_gates_backward(Context& ctx, ops::DeltaGateGradients grads, ConstTensor dlog_decay,
                          ConstTensor dbeta, ops::DeltaGateInputs in, ops::DeltaGateOptions options) {
  require(in.ab.dtype == DType::f32, "delta_gates_backward: ab is {}: expected f32 on cuda", describe(in.ab));
  const auto tokens = dbeta.shape[0], heads = dbeta.shape[1];
  if (dbeta.count() == 0) return;
  const Arena::Scope scope(*ctx.scratch);
  const Tensor sums = make_backward_scratch(ctx, tokens, heads);
  const dim3 grid(static_cast<unsigned>(sums.shape[0]), static_cast<unsigned>(ceil_div(heads, kThreads)));
  visit_activation("delta_gates_backward", grads.ab.dtype, [&]<class T>() {
    const Backward<T> arguments{.dab = pointer<T>(grads.ab),
                                .sums = pointer<float>(sums),
                                .dlog_decay = pointer<float>(dlog_decay),
                                .dbeta = pointer<float>(dbeta),
                                .ab = pointer<float>(in.ab),
                                .a_log = pointer<float>(in.a_log),
                                .dt_bias = pointer<float>(in.dt_bias),
                                .tokens = tokens,
                                .block = block_of(tokens),
                                .heads = static_cast<int>(heads),
                                .beta_scale = static_cast<float>(options.beta_scale)};
    backward_kernel<T><<<grid, kThreads, 0, stream_of(ctx)>>>(arguments);
  });
  check_launch();
  add_column_sums(ctx, grads.a_log, grads.dt_bias, sums);
}

void scratch::delta_gates_backward(Context& ctx, ops::DeltaGateGradients, ConstTensor, ConstTensor dbeta,
                                   ops::DeltaGateInputs, ops::DeltaGateOptions) {
  if (dbeta.count() == 0) return;
  const Arena::Scope scope(*ctx.scratch);
  make_backward_scratch(ctx, dbeta.shape[0], dbeta.shape[1]);
}

}  // namespace braid::cuda
