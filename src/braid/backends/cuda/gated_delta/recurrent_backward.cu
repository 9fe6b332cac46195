// Each block takes columns of one head of one segment, chunk by chunk from the end (reverse.cuh). What sums
// over columns and over the value heads of a key goes through scratch, and is summed there in a fixed order.
#include "braid/backends/cuda/gated_delta/reverse.cuh"

namespace braid::cuda::recurrent {
namespace {

using namespace delta;

constexpr std::int64_t kBlocksPerMultiprocessor = 2;

// One slice of one head of one segment.
template <int kRows, int kColumns, class T>
__device__ void reverse_segment(const Backward<T>& b, const Place& at, Shared<kRows, kColumns>& shared) {
  const std::int64_t begin = b.p.offsets[at.segment], end = b.p.offsets[at.segment + 1];
  const std::int64_t chunks = (end - begin + ops::kDeltaChunk - 1) / ops::kDeltaChunk;
  float ds[kRows][kColumns], state[kRows][kColumns];
  load_tile(ds, matrix_of(b.dfinal, at.segment, b.p.heads, at), at);
  for (std::int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
    // The initial state itself is more exact than its checkpoint.
    if (chunk == 0) {
      load_tile(state, matrix_of(b.initial, at.segment, b.p.heads, at), at);
    } else {
      const auto slot = ops::delta_chunk_slot(at.segment, begin) + chunk;
      load_tile(state, matrix_of(b.checkpoints, slot, b.p.heads, at), at);
    }
    const std::int64_t first = begin + chunk * ops::kDeltaChunk;
    reverse_chunk(ds, state, b, at, first, min(end, first + ops::kDeltaChunk), shared);
  }
  if (b.dinitial != nullptr) store_tile(matrix_of(b.dinitial, at.segment, b.p.heads, at), ds, at);
}

template <int kRows, int kColumns, class T>
__global__ void __launch_bounds__(kThreads) backward_kernel(Backward<T> b) {
  extern __shared__ __align__(16) unsigned char bytes[];
  auto& shared = *reinterpret_cast<Shared<kRows, kColumns>*>(bytes);
  const auto tasks = static_cast<std::int32_t>(b.p.segments * b.p.heads * b.parts);
  for (auto task = static_cast<std::int32_t>(blockIdx.x); task < tasks;
       task += static_cast<std::int32_t>(gridDim.x)) {
    const std::int32_t matrix = task / b.parts;
    for (std::int32_t slice = task % b.parts; slice < b.p.slices; slice += b.parts) {
      reverse_segment(b, Place(b.p, matrix * b.p.slices + slice, kColumns), shared);
    }
  }
}

// Gradients of one token's query and key in one key head, one warp: sums over parts and over the value heads
// that share it, then back through the normalisation: dx = factor · (dx̂ − x̂ (x̂ · dx̂)).
template <class T>
__device__ __forceinline__ void reduce_key(T* dx, const T* x, const float* partial, std::int64_t part_stride,
                                           int parts, const Problem<T>& p) {
  constexpr int kPerLane = kMaxKeyWidth / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32, shared_by = p.heads / p.key_heads;
  float sum[kPerLane], value[kPerLane], squares = 0, along = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int d = lane + 32 * i;
    sum[i] = value[i] = 0;
    if (d >= p.dk) continue;
    for (int part = 0; part < parts; ++part) {
      for (int h = 0; h < shared_by; ++h) sum[i] += partial[part * part_stride + h * 2 * p.dk + d];
    }
    value[i] = to_float(x[d]);
    squares = fmaf(value[i], value[i], squares);
    along = fmaf(value[i], sum[i], along);
  }
  const float factor = unit_factor(warp_sum(squares));
  along = warp_sum(along) * factor * factor;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (lane + 32 * i < p.dk) dx[lane + 32 * i] = from_float<T>(factor * (sum[i] - value[i] * along));
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) key_kernel(T* dq, T* dk, Backward<T> b) {
  const Problem<T>& p = b.p;
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;  // of (N, Hk)
  if (row >= p.tokens * p.key_heads) return;
  // Value heads of a key head follow each other: row · (Hv / Hk) is the first.
  const float* from = b.dkey + row * (p.heads / p.key_heads) * 2 * p.dk;
  const std::int64_t part_stride = p.tokens * p.heads * 2 * p.dk;
  reduce_key(dq + row * p.dk, p.q + row * p.dk, from, part_stride, b.parts, p);
  reduce_key(dk + row * p.dk, p.k + row * p.dk, from + p.dk, part_stride, b.parts, p);
}

template <class T>
__global__ void __launch_bounds__(kThreads) gate_kernel(float* dlog_decay, float* dbeta, Backward<T> b) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x, count = b.p.tokens * b.p.heads;
  if (i >= count) return;
  float decay = 0, beta = 0;
  for (int part = 0; part < b.parts; ++part) {
    decay += b.ddecay[part * count + i];
    beta += b.dbeta[part * count + i];
  }
  dlog_decay[i] = decay;
  dbeta[i] = beta;
}

struct BackwardScratch {
  Tensor starts, dkey, ddecay, dbeta;
  std::int64_t parts = 0, blocks = 0;
};

// As many parts of a head as fill the device, and no more: dkey has one matrix for each.
std::int64_t parts_for(const Context& ctx, std::int64_t matrices, std::int64_t slices) {
  if (ctx.arithmetic == Arithmetic::strict || matrices == 0) return 1;  // one order of sums for every call
  const auto wanted = ceil_div(kBlocksPerMultiprocessor * state_of(ctx).multiprocessors, matrices);
  return ceil_div(slices, ceil_div(slices, std::clamp<std::int64_t>(wanted, 1, slices)));
}

template <int kRows, int kColumns>
BackwardScratch make_backward_scratch(Context& ctx, const ops::GatedDeltaInputs& in,
                                      const ops::Segments& segments) {
  const auto tokens = in.v.shape[0], heads = in.v.shape[1], matrices = segments.count() * heads;
  const auto parts = parts_for(ctx, matrices, ceil_div(in.v.shape[2], kLanes * kColumns));
  const auto blocks = std::min(matrices * parts, kBlocksPerMultiprocessor * state_of(ctx).multiprocessors);
  return {.starts = ctx.scratch->make(DType::f32, {blocks, ops::kDeltaChunk / run_tokens(kRows, kColumns),
                                                   kRows * kThreads * kColumns}),
          .dkey = ctx.scratch->make(DType::f32, {parts, tokens, heads, 2, in.k.shape[2]}),
          .ddecay = ctx.scratch->make(DType::f32, {parts, tokens, heads}),
          .dbeta = ctx.scratch->make(DType::f32, {parts, tokens, heads}),
          .parts = parts,
          .blocks = blocks};
}

// Sums of the partial gradients; does nothing where there are no tokens.
template <class T>
void launch_reductions(Context& ctx, const ops::GatedDeltaGradients& grads, const Backward<T>& b) {
  const Problem<T>& p = b.p;
  const std::int64_t gates = p.tokens * p.heads;
  if (gates == 0) return;
  const auto key_blocks = static_cast<unsigned>(ceil_div(p.tokens * p.key_heads, kWarps));
  key_kernel<T><<<key_blocks, kThreads, 0, stream_of(ctx)>>>(pointer<T>(grads.q), pointer<T>(grads.k), b);
  check_launch("gated_delta_backward");
  const auto gate_blocks = static_cast<unsigned>(ceil_div(gates, kThreads));
  gate_kernel<T><<<gate_blocks, kThreads, 0, stream_of(ctx)>>>(pointer<float>(grads.log_decay),
                                                               pointer<float>(grads.beta), b);
  check_launch("gated_delta_backward");
}

}  // namespace

void backward(Context& ctx, ops::GatedDeltaGradients grads, ops::GatedDeltaStateGradients state_grads,
              ConstTensor dy, ops::GatedDeltaInputs in, ops::GatedDeltaSaved saved, ops::Segments segments,
              double scale) {
  visit_activation("gated_delta_backward", in.v.dtype, [&]<class T>() {
    visit_tile(in.k.shape[2], in.v.shape[2], [&]<int kRows, int kColumns>() {
      const Arena::Scope scope(*ctx.scratch);
      const auto scratch = make_backward_scratch<kRows, kColumns>(ctx, in, segments);
      const Backward<T> b{.p = make_problem<T>(in, segments, scale, kColumns),
                          .dy = pointer<T>(dy),
                          .checkpoints = pointer<T>(saved.checkpoints),
                          .initial = pointer<float>(saved.initial),
                          .dfinal = pointer<float>(state_grads.final),
                          .dv = pointer<T>(grads.v),
                          .dinitial = pointer<float>(state_grads.initial),
                          .starts = pointer<float>(scratch.starts),
                          .dkey = pointer<float>(scratch.dkey),
                          .ddecay = pointer<float>(scratch.ddecay),
                          .dbeta = pointer<float>(scratch.dbeta),
                          .parts = static_cast<std::int32_t>(scratch.parts)};
      if (scratch.blocks == 0) return;
      constexpr int kSharedBytes = sizeof(Shared<kRows, kColumns>);
      check_cuda(cudaFuncSetAttribute(backward_kernel<kRows, kColumns, T>,
                                      cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
                 "gated_delta_backward");
      backward_kernel<kRows, kColumns, T>
          <<<static_cast<unsigned>(scratch.blocks), kThreads, kSharedBytes, stream_of(ctx)>>>(b);
      check_launch("gated_delta_backward");
      launch_reductions(ctx, grads, b);
    });
  });
}

void backward_scratch(Context& ctx, ops::GatedDeltaInputs in, ops::Segments segments) {
  visit_tile(in.k.shape[2], in.v.shape[2], [&]<int kRows, int kColumns>() {
    const Arena::Scope scope(*ctx.scratch);
    make_backward_scratch<kRows, kColumns>(ctx, in, segments);
  });
}

}  // namespace braid::cuda::recurrent
