// What the scans by warpgroup share. As in scan.cuh one block carries 64 columns of one head's state (Dk, Dv)
// through a segment, transposed, in the accumulators of four warps; but these are one warpgroup, whose
// products read K, Q, X and R where the copy engine puts them, and one more warp only starts the copies.
#pragma once
#include "braid/backends/cuda/device/async_copy.cuh"
#include "braid/backends/cuda/device/wgmma_slabs.cuh"
#include "braid/backends/cuda/gated_delta/scan.cuh"
#include "braid/backends/cuda/gated_delta/scan_group.h"
#include "braid/backends/cuda/gated_delta/written_values.cuh"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda::chunked {

inline constexpr int kGroupScanThreads = (kConsumers + 1) * 32;

// One chunk in shared memory. K, Q, X: slabs (tile.cuh). R, and V or dO: 64 lines of 128 bytes.
template <int kWidth>
struct GroupStage {
  using Tile = Slabs<kChunk, kWidth>;  // K, Q or X
  static constexpr int kKeys = 0;
  static constexpr int kQueries = kKeys + kChunk * kWidth * 2;
  static constexpr int kWritten = kQueries + kChunk * kWidth * 2;
  static constexpr int kResponse = kWritten + kChunk * kWidth * 2;
  static constexpr int kValues = kResponse + kChunk * kChunk * 2;
  static constexpr int kScalarRows = kValues + kChunk * kSlice * 2;
  static constexpr int kBytes = kScalarRows + kScanScalars * kChunk * 4;
  static_assert(kBytes % 1024 == 0);  // swizzles repeat after that many
};

// Shared memory: kStages stages, 16 columns of 64 rows to each warp on their way out, and two barriers a
// stage.
template <int kWidth, int kStages>
struct GroupScanLayout {
  static constexpr int kStage = GroupStage<kWidth>::kBytes, kAlignment = 1024;
  static constexpr int kStagingBytes = kChunk * kSlice * 2, kBarrierBytes = 64;
  static_assert(kStages >= 2 && 2 * kStages * 8 <= kBarrierBytes);
  static constexpr int kStaging = kStages * kStage;
  static constexpr int kBarriers = kStaging + kStagingBytes;
  static constexpr int kBytes = kBarriers + kBarrierBytes + kAlignment;
  static_assert(kBytes <= 227 * 1024);
  // A multiprocessor has 228 KB, of which each block takes 1 besides its own.
  static_assert(kStages > 2 || 2 * (kBytes + 1024) <= 228 * 1024);

  static __device__ __forceinline__ unsigned char* align(unsigned char* memory) {
    return memory + (kAlignment - shared_address(memory) % kAlignment) % kAlignment;
  }
};

// The stages as a ring: the i-th chunk that a block works on is in stage i % kStages.
template <int kWidth, int kStages>
struct StageRing {
  using L = GroupScanLayout<kWidth, kStages>;
  unsigned char* memory;

  __device__ __forceinline__ unsigned char* stage(int i) const { return memory + i % kStages * L::kStage; }
  __device__ __forceinline__ SharedAddress full(int i) const {
    return shared_address(memory + L::kBarriers + i % kStages * 8);
  }
  __device__ __forceinline__ SharedAddress empty(int i) const { return full(i) + kStages * 8; }

  // By one thread.
  __device__ __forceinline__ void init() const {
    for (int i = 0; i < kStages; ++i) {
      init_barrier(full(i), 1);
      init_barrier(empty(i), kConsumers * 32);
    }
    publish_barriers();
  }
  __device__ __forceinline__ void wait_full(int i) const { wait_for_phase(full(i), i / kStages % 2); }
  // By every thread of the warpgroup, when it and its products have read the stage: what was loaded must have
  // been used, since an arrival does not wait for loads on their way.
  __device__ __forceinline__ void release(int i) const { arrive(empty(i)); }
  __device__ __forceinline__ const float* scalars(int i) const {
    return reinterpret_cast<const float*>(stage(i) + GroupStage<kWidth>::kScalarRows);
  }
  __device__ __forceinline__ float last_gamma(int i) const {
    return scalars(i)[kGamma * kChunk + kChunk - 1];
  }
};

// One thread's part: chunk order(0), order(1), … each into its stage when that is free.
template <int kWidth, int kStages, class Order>
__device__ __forceinline__ void copy_chunks(const StageRing<kWidth, kStages>& ring, const Problem& p,
                                            const ScanBlock& block, const ScanTensors& tensors,
                                            const float* scalars, Order order) {
  using S = GroupStage<kWidth>;
  const int key_head = block.head / (p.value_heads / p.key_heads);
  for (int i = 0; i < block.chunks; ++i) {
    if (i >= kStages) wait_for_phase(ring.empty(i), (i / kStages + 1) % 2);
    const int chunk = order(i), token = static_cast<int>(block.begin) + chunk * kChunk;
    const std::int64_t unit = block.unit(p, chunk);
    const int row = static_cast<int>(unit * kChunk);
    const SharedAddress stage = shared_address(ring.stage(i)), full = ring.full(i);
    arrive_expecting(full, S::kBytes);
    copy_box(stage + S::kKeys, tensors.keys, full, 0, token, 0, key_head);
    copy_box(stage + S::kValues, tensors.values, full, block.column, token, block.head);
    copy_bulk(stage + S::kScalarRows, scalars + unit * kScalars * kChunk, kScanScalars * kChunk * 4, full);
    copy_box(stage + S::kQueries, tensors.queries, full, 0, token, 0, key_head);
    copy_box(stage + S::kWritten, tensors.written, full, 0, row, 0);
    copy_box(stage + S::kResponse, tensors.response, full, 0, row);
  }
}

// Calls f.template operator()<key width, stages>(). More blocks than there are multiprocessors finish earlier
// two at a time on each than one after the other, for which only two stages of narrow keys fit.
template <class F>
void visit_group_scan(const Context& ctx, const Problem& p, F&& f) {
  switch (p.key_width) {
    case 64:
      if (scan_blocks(p) > static_cast<unsigned>(state_of(ctx).multiprocessors)) {
        return f.template operator()<64, 2>();
      }
      return f.template operator()<64, 4>();
    case 96:
      return f.template operator()<96, 4>();
    default:
      return f.template operator()<128, 3>();
  }
}

// Right operands of the products, 16 k at a time: squares, columns along k, or rows.
__device__ __forceinline__ std::uint64_t square_columns(SharedAddress square, int k) {
  return matrix_descriptor(square + k * 32, 0, 1024, RowSwizzle::bytes128);
}
__device__ __forceinline__ std::uint64_t square_rows(SharedAddress square, int k) {
  return matrix_descriptor(square + k * 16 * 128, 0, 1024, RowSwizzle::bytes128);
}

// Accumulators of Sᵀ (64 columns, kWidth rows of the state) and its bf16 copy as a left operand.
template <int kWidth>
struct TransposedState {
  float values[kWidth / 8][4];
  std::uint32_t rounded[kWidth / 16][4];

  __device__ __forceinline__ void round() {
#pragma unroll
    for (int k = 0; k < kWidth / 16; ++k) {
      pack_pair<PackedBf16>(rounded[k], values[2 * k], values[2 * k + 1]);
    }
  }
  __device__ __forceinline__ void scale(float gamma) {
#pragma unroll
    for (int tile = 0; tile < kWidth / 8; ++tile) {
#pragma unroll
      for (int c = 0; c < 4; ++c) values[tile][c] *= gamma;
    }
  }
};

// x = Sᵀ times the transpose of a tile.
template <int kWidth>
__device__ __forceinline__ void read_state(Tokens& x, const TransposedState<kWidth>& s, SharedAddress tile) {
  multiply_steps<Lines::along_k, false, kWidth / 16>(
      PackedBf16{}, x, [&](int k) -> const auto& { return s.rounded[k]; },
      [&](int k, int) { return columns_along_k(typename GroupStage<kWidth>::Tile{tile}, k); });
  commit_products();
}

}  // namespace braid::cuda::chunked
