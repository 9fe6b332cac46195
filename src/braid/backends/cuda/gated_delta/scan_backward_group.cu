// scan_backward.cu's work by a warpgroup (wgmma), as scan_forward_group.cu does that of scan_forward.cu.
#include "braid/backends/cuda/gated_delta/launch_kernel.cuh"
#include "braid/backends/cuda/gated_delta/scan_group.h"
#include "braid/backends/cuda/gated_delta/scan_stage.cuh"
#include "braid/backends/cuda/gated_delta/written_gradients.cuh"

namespace braid::cuda::chunked {
namespace {

// Zeros in rows [rows, 64) of the tiles at `tile`, which the copy engine filled from the segment behind.
template <int kWidth>
__device__ __forceinline__ void clear_rows(unsigned char* tile, int rows, int thread) {
  constexpr int kPackets = 4;  // a line of 64 bytes
  for (int i = thread; i < kWidth / 32 * (kChunk - rows) * kPackets; i += kConsumers * 32) {
    const int slab = i / ((kChunk - rows) * kPackets), packet = i % ((kChunk - rows) * kPackets);
    *reinterpret_cast<uint4*>(tile + slab * GroupStage<kWidth>::Tile::kSlabBytes + rows * 64 +
                              packet * 16) = {0, 0, 0, 0};
  }
}

// ds += left times a tile (64, kWidth), transposed.
template <int kWidth>
__device__ __forceinline__ void add_outer(TransposedState<kWidth>& ds, TokenOperands& left,
                                          SharedAddress tile) {
  begin_products(left);
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    multiply_async<Lines::along_n, true>(PackedBf16{}, ds.values, left[k],
                                         rows_along_k(Slabs<kChunk, kWidth>{tile}, k));
  }
  commit_products();
}

template <int kWidth, int kStages>
struct Consumer {
  using S = GroupStage<kWidth>;
  const StageRing<kWidth, kStages>& ring;
  const Problem& p;
  const ScanBlock& block;
  bf16* dv;
  const BackwardStates& states;
  int warp, lane;

  __device__ __forceinline__ std::int64_t column() const { return block.column + 16 * warp; }
  __device__ __forceinline__ std::int64_t state_size() const {
    return std::int64_t{p.key_width} * p.value_width;
  }
  __device__ __forceinline__ unsigned char* staging() const {
    return ring.memory + GroupScanLayout<kWidth, kStages>::kStaging;
  }
  // The chunks come from the last to the first.
  __device__ __forceinline__ int chunk(int i) const { return block.chunks - 1 - i; }

  // Waits for the i-th chunk and reads dO.
  __device__ __forceinline__ void begin_chunk(int i, TokenOperands& dout) const {
    ring.wait_full(i);
    const Tile<kSlice> outputs{shared_address(ring.stage(i) + S::kValues)};
#pragma unroll
    for (int k = 0; k < 4; ++k) outputs.left_transposed(dout[k], 16 * k, 2 * warp, lane);
  }
  // In the first chunk, the segment's last, rows beyond the segment become zero.
  __device__ __forceinline__ void clear_beyond_segment(TokenOperands& dout) const {
    unsigned char* stage = ring.stage(0);
    const int rows = block.rows(chunk(0));
    if (rows == kChunk) return;
    clear_tail(dout, rows, lane);
    clear_rows<kWidth>(stage + S::kKeys, rows, 32 * warp + lane);
    clear_rows<kWidth>(stage + S::kQueries, rows, 32 * warp + lane);
    fence_shared_for_async();
    block_barrier<kConsumers * 32>();
  }

  // response = Rᵀ dO, transposed.
  __device__ __forceinline__ void respond(int i, Tokens& response, TokenOperands& dout) const {
    const SharedAddress square = shared_address(ring.stage(i) + S::kResponse);
    begin_products(dout);
    multiply_steps<Lines::along_n, false, 4>(
        PackedBf16{}, response, [&](int k) -> const auto& { return dout[k]; },
        [&](int k, int) { return square_rows(square, k); });
    commit_products();
  }

  __device__ __forceinline__ void store_written(int c, const Tokens& dy) const {
    const Rows rows = value_rows(p, block.begin + std::int64_t{c} * kChunk, block.head);
    store_columns(dv + rows.first + column(), rows.pitch, block.rows(c), dy, 1.0F, staging(), 2 * warp, lane);
  }

  // The i-th chunk. ds: the gradient of the state after it, its values already times the chunk's γ; on return
  // the same of the chunk to come, whose dout and response are left too. No product is under way at either
  // end.
  template <bool kLast>
  __device__ __forceinline__ void step(int i, TransposedState<kWidth>& ds, TokenOperands& dout,
                                       Tokens& response) const {
    const SharedAddress stage = shared_address(ring.stage(i));
    const float* scalars = ring.scalars(i);
    const int c = chunk(i);
    Tokens dy;
    begin_products(ds.rounded);
    read_state(dy, ds, stage + S::kWritten);
    scale_outputs(dout, scalars, p.scale, lane);
    pin(ds.values);
    add_outer(ds, dout, stage + S::kQueries);
    store_packed_columns(states.dstates + block.unit(p, c) * state_size() + column(), p.value_width,
                         p.key_width, ds.rounded, staging(), 2 * warp, lane);
    wait_for_products<1>(dy);
#pragma unroll
    for (int tile = 0; tile < 8; ++tile) {
#pragma unroll
      for (int j = 0; j < 4; ++j) dy[tile][j] = fmaf(p.scale, response[tile][j], dy[tile][j]);
    }
    TokenOperands dw;
    scale_written(dw, dy, scalars, lane);
    add_outer(ds, dw, stage + S::kKeys);
    store_written(c, dy);
    if constexpr (kLast) {
      wait_for_products<0>(ds.values);
    } else {
      wait_for_products<1>(dout);
      begin_chunk(i + 1, dout);
      respond(i + 1, response, dout);
      wait_for_products<1>(ds.values);
      ds.round();
      ds.scale(ring.last_gamma(i + 1));
      wait_for_products<0>(response, dout);
      ring.release(i);
    }
  }

  __device__ __forceinline__ void run() const {
    TransposedState<kWidth> ds;
    const float* dfinal = states.dfinal;
    load_state(ds.values, dfinal == nullptr ? nullptr : dfinal + block.state * state_size() + column(),
               p.value_width, p.key_width, lane);
    if (block.chunks > 0) {
      TokenOperands dout;
      Tokens response;
      ds.round();
      begin_chunk(0, dout);
      clear_beyond_segment(dout);
      ds.scale(ring.last_gamma(0));
      respond(0, response, dout);
      wait_for_products<0>(response, dout);
      const int last = block.chunks - 1;
      for (int i = 0; i < last; ++i) step<false>(i, ds, dout, response);
      step<true>(last, ds, dout, response);
    }
    if (states.dinitial == nullptr) return;
    store_state(states.dinitial + block.state * state_size() + column(), ds.values, p.value_width,
                p.key_width, lane);
  }
};

template <int kWidth, int kStages>
__global__ void __launch_bounds__(kGroupScanThreads, kStages == 2 ? 2 : 1)
    scan_backward_group_kernel(const __grid_constant__ ScanTensors tensors, Problem p, const float* scalars,
                               bf16* dv, BackwardStates states) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const ScanBlock block(p);
  const StageRing<kWidth, kStages> ring{GroupScanLayout<kWidth, kStages>::align(dynamic_shared())};
  if (threadIdx.x == 0) ring.init();
  __syncthreads();
  if (warp < kConsumers) {
    Consumer<kWidth, kStages>{ring, p, block, dv, states, warp, lane}.run();
  } else if (lane == 0) {
    copy_chunks(ring, p, block, tensors, scalars, [&](int i) { return block.chunks - 1 - i; });
  }
}

}  // namespace

void scan_backward_group(Context& ctx, const Problem& p, const Inputs& in, const Chunks& chunks,
                         const bf16* dy, bf16* dv, const BackwardStates& states) {
  const ScanTensors tensors = scan_tensors(p, in, dy, chunks);
  visit_group_scan(ctx, p, [&]<int kWidth, int kStages>() {
    launch_kernel(ctx, scan_backward_group_kernel<kWidth, kStages>, scan_blocks(p), kGroupScanThreads,
                  GroupScanLayout<kWidth, kStages>::kBytes, tensors, p, chunks.scalars, dv, states);
  });
}

}  // namespace braid::cuda::chunked
