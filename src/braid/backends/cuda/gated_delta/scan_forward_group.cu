// scan_forward.cu's work by a warpgroup (wgmma): the same products in the same order, but their right
// operands are read from shared memory by the tensor cores, while the warps scale, pack and store.
#include "braid/backends/cuda/gated_delta/launch_kernel.cuh"
#include "braid/backends/cuda/gated_delta/scan_group.h"
#include "braid/backends/cuda/gated_delta/scan_stage.cuh"
#include "braid/backends/cuda/gated_delta/written_values.cuh"

namespace braid::cuda::chunked {
namespace {

template <int kWidth, int kStages>
struct Consumer {
  using S = GroupStage<kWidth>;
  const StageRing<kWidth, kStages>& ring;
  const Problem& p;
  const ScanBlock& block;
  bf16* y;
  const ForwardStates& states;
  unsigned long long* saturated;
  int warp, lane;

  __device__ __forceinline__ std::int64_t column() const { return block.column + 16 * warp; }
  __device__ __forceinline__ std::int64_t state_size() const {
    return std::int64_t{p.key_width} * p.value_width;
  }
  __device__ __forceinline__ unsigned char* staging() const {
    return ring.memory + GroupScanLayout<kWidth, kStages>::kStaging;
  }

  __device__ __forceinline__ void store_outputs(int c, const std::uint32_t (&outputs)[4][4]) const {
    const Rows rows = value_rows(p, block.begin + std::int64_t{c} * kChunk, block.head);
    store_packed_columns(y + rows.first + column(), rows.pitch, block.rows(c), outputs, staging(), 2 * warp,
                         lane);
  }
  // The state before chunk c.
  __device__ __forceinline__ void store_checkpoint(int c, const TransposedState<kWidth>& s) const {
    if (states.checkpoints == nullptr) return;
    store_packed_columns(states.checkpoints + block.unit(p, c) * state_size() + column(), p.value_width,
                         p.key_width, s.rounded, staging(), 2 * warp, lane);
  }

  // Chunk c, from the state before it to that after it, whose values are left multiplied by the γ of the
  // chunk to come. `outputs`: of the chunk before on entry, stored while this chunk's products run, then of
  // this one. No product is under way at either end: the compiler would lose track of it and serialise them
  // all.
  template <bool kLast>
  __device__ __forceinline__ void step(int c, TransposedState<kWidth>& s,
                                       std::uint32_t (&outputs)[4][4]) const {
    const SharedAddress stage = shared_address(ring.stage(c));
    const float* scalars = ring.scalars(c);
    Tokens u, o;
    begin_products(s.rounded);
    read_state(u, s, stage + S::kKeys);
    read_state(o, s, stage + S::kQueries);
    if (c > 0) store_outputs(c - 1, outputs);
    store_checkpoint(c, s);
    wait_for_products<1>(u);
    std::uint32_t written[4][4];
    float largest;
    write_values(written, u, Tile<kSlice>{stage + S::kValues}, scalars, 2 * warp, lane, largest);
    // Rows beyond the segment may hold anything, of its neighbour's.
    if (kLast && block.rows(c) < kChunk) clear_tail(written, block.rows(c), lane);
    begin_products(written, s.values);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      multiply_async<Lines::along_n, true>(PackedHalf{}, s.values, written[k],
                                           rows_along_k(typename S::Tile{stage + S::kWritten}, k));
    }
    commit_products();
    wait_for_products<1>(o);
    scale_tokens(o, scalars + kQueryGain * kChunk, lane);
    begin_products(o);
    multiply_steps<Lines::along_k, true, 4>(
        PackedHalf{}, o, [&](int k) -> const auto& { return written[k]; },
        [&](int k, int) { return square_columns(stage + S::kResponse, k); });
    commit_products();
    wait_for_products<1>(s.values);
    if constexpr (!kLast) {
      s.round();
      ring.wait_full(c + 1);
      s.scale(ring.last_gamma(c + 1));
    }
    wait_for_products<0>(o);
    ring.release(c);
    count_saturated(u, largest, saturated);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      pack_pair<PackedBf16>(outputs[pair], o[2 * pair], o[2 * pair + 1], p.scale);
    }
  }

  __device__ __forceinline__ void run() const {
    TransposedState<kWidth> s;
    const float* initial = states.initial;
    load_state(s.values, initial == nullptr ? nullptr : initial + block.state * state_size() + column(),
               p.value_width, p.key_width, lane);
    if (block.chunks > 0) {
      std::uint32_t outputs[4][4]{};
      const int last = block.chunks - 1;
      s.round();
      ring.wait_full(0);
      s.scale(ring.last_gamma(0));
      for (int c = 0; c < last; ++c) step<false>(c, s, outputs);
      step<true>(last, s, outputs);
      store_outputs(last, outputs);
    }
    if (states.final == nullptr) return;
    store_state(states.final + block.state * state_size() + column(), s.values, p.value_width, p.key_width,
                lane);
  }
};

template <int kWidth, int kStages>
__global__ void __launch_bounds__(kGroupScanThreads, kStages == 2 ? 2 : 1)
    scan_forward_group_kernel(const __grid_constant__ ScanTensors tensors, Problem p, const float* scalars,
                              bf16* y, ForwardStates states, unsigned long long* saturated) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const ScanBlock block(p);
  const StageRing<kWidth, kStages> ring{GroupScanLayout<kWidth, kStages>::align(dynamic_shared())};
  if (threadIdx.x == 0) ring.init();
  __syncthreads();
  if (warp < kConsumers) {
    Consumer<kWidth, kStages>{ring, p, block, y, states, saturated, warp, lane}.run();
  } else if (lane == 0) {
    copy_chunks(ring, p, block, tensors, scalars, [](int i) { return i; });
  }
}

}  // namespace

void scan_forward_group(Context& ctx, const Problem& p, const Inputs& in, const Chunks& chunks, bf16* y,
                        const ForwardStates& states, unsigned long long* saturated) {
  const ScanTensors tensors = scan_tensors(p, in, in.v, chunks);
  visit_group_scan(ctx, p, [&]<int kWidth, int kStages>() {
    launch_kernel(ctx, scan_forward_group_kernel<kWidth, kStages>, scan_blocks(p), kGroupScanThreads,
                  GroupScanLayout<kWidth, kStages>::kBytes, tensors, p, chunks.scalars, y, states, saturated);
  });
}

}  // namespace braid::cuda::chunked
