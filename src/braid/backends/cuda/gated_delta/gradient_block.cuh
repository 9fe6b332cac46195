// The shared memory and the roles of the warps in the gradient kernel.
#pragma once
#include "braid/backends/cuda/device/async_copy.cuh"
#include "braid/backends/cuda/device/wgmma_slabs.cuh"
#include "braid/backends/cuda/gated_delta/chunk.cuh"

namespace braid::cuda::chunked {

inline constexpr int kGradientThreads = 256;

// The two warpgroups: one is about what the chunk gives (dO, Q), the other about what it writes (dW, K).
enum Side : int { kOutputSide, kWriteSide };

// Sums over the rows of the chunk. From kStateRead on each has two parts, one from each warpgroup.
enum RowSum : int {
  kStateQuery,
  kStateKey,
  kStateRead,
  kError = kStateRead + 2,
  kPairs = kError + 2,
  kRowSums = kPairs + 2
};

// What one block keeps in shared memory: the chunk, and 64 columns at a time of all that is as wide as a
// value. Of S and V there are two, the second for the next 64 columns.
template <int kWidth>
struct GradientLayout {
  using KeyTile = Slabs<kChunk, kWidth>;
  using StateTile = Slabs<kWidth, kSlice>;
  using Square = Slabs<kChunk, kChunk>;
  static constexpr int kKeys = 0;
  static constexpr int kQueries = kKeys + KeyTile::kBytes;
  static constexpr int kStates = kQueries + KeyTile::kBytes;       // later dQ and dK on their way out
  static constexpr int kValues = kStates + 2 * StateTile::kBytes;  // V, then Y, then diag(ρ) Δ
  static constexpr int kStateGradients = kValues + 2 * Square::kBytes;
  static constexpr int kOutputs = kStateGradients + StateTile::kBytes;  // dO, later P' times r_q of the row
  static constexpr int kWrites = kOutputs + Square::kBytes;    // dW, later −N' times r_k of the row
  static constexpr int kDeltas = kWrites + Square::kBytes;     // Δ
  static constexpr int kPredicted = kDeltas + Square::kBytes;  // M; then sums:
  static constexpr int kRowSumRows = kPredicted;               // (kRowSums, 64)
  static constexpr int kColumnSums = kRowSumRows + kRowSums * kChunk * 4;              // (warps, 64)
  static constexpr int kStateSums = kColumnSums + kGradientThreads / 32 * kChunk * 4;  // a warp each
  static_assert(kStateSums + kGradientThreads / 32 * 4 <= kPredicted + Square::kBytes);
  static constexpr int kScalarRows = kPredicted + Square::kBytes;
  static constexpr int kBytes = kScalarRows + kScalars * kChunk * 4;
  // Blocks on a multiprocessor, which has 228 KB, of which each takes 1 besides its own.
  static constexpr int kBlocks = kWidth <= 96 ? 2 : 1;
  static_assert(kBytes <= 227 * 1024 && kBlocks * (kBytes + 1024) <= 228 * 1024);
  static_assert(KeyTile::kBytes == StateTile::kBytes);
};

// What a warpgroup sees. Its warp m has rows 16 m to 16 m + 15 of the chunk, in fragments as
// tensor_core.cuh's.
template <int kWidth>
struct GradientBlock {
  using L = GradientLayout<kWidth>;
  unsigned char* memory;
  int thread, lane, m, group;

  __device__ __forceinline__ GradientBlock()
      : memory(aligned_dynamic_shared()),
        thread(static_cast<int>(threadIdx.x)),
        lane(thread % 32),
        // The same in all of a warp, as the compiler then knows.
        m(__shfl_sync(0xffffffffU, thread / 32 % 4, 0)),
        group(__shfl_sync(0xffffffffU, thread / 128, 0)) {}

  __device__ __forceinline__ bool writes() const { return group == kWriteSide; }

  __device__ __forceinline__ SharedAddress at(int offset) const { return shared_address(memory + offset); }
  __device__ __forceinline__ typename L::KeyTile keys() const { return {at(L::kKeys)}; }
  __device__ __forceinline__ typename L::KeyTile queries() const { return {at(L::kQueries)}; }
  // Of the i-th 64 columns.
  __device__ __forceinline__ typename L::StateTile states(int i) const {
    return {at(L::kStates + i % 2 * L::StateTile::kBytes)};
  }
  __device__ __forceinline__ typename L::Square values(int i) const {
    return {at(L::kValues + i % 2 * L::Square::kBytes)};
  }
  __device__ __forceinline__ typename L::StateTile state_gradients() const {
    return {at(L::kStateGradients)};
  }
  __device__ __forceinline__ typename L::Square square(int offset) const { return {at(offset)}; }
  // Of the warpgroup's side: Q or K, dO or dW, r_q or r_k.
  __device__ __forceinline__ typename L::KeyTile own_rows() const { return writes() ? keys() : queries(); }
  __device__ __forceinline__ typename L::Square own_square() const {
    return square(writes() ? L::kWrites : L::kOutputs);
  }
  __device__ __forceinline__ const float* own_norms() const {
    return scalars(writes() ? kKeyNorm : kQueryNorm);
  }

  // The two rows of the chunk that this lane has in its accumulators.
  __device__ __forceinline__ int row(int half) const { return 16 * m + lane / 4 + 8 * half; }
  __device__ __forceinline__ float* scalars(Scalar which) const {
    return reinterpret_cast<float*>(memory + L::kScalarRows) + which * kChunk;
  }
  __device__ __forceinline__ float* row_sums(int which) const {
    return reinterpret_cast<float*>(memory + L::kRowSumRows) + which * kChunk;
  }
  // Of a sum in two parts.
  __device__ __forceinline__ float row_sum(int which, int row) const {
    return row_sums(which)[row] + row_sums(which + 1)[row];
  }
  __device__ __forceinline__ float* column_sums(int warp) const {
    return reinterpret_cast<float*>(memory + L::kColumnSums) + warp * kChunk;
  }
  __device__ __forceinline__ float* state_sums() const {
    return reinterpret_cast<float*>(memory + L::kStateSums);
  }
  // After this the tensor cores see what the block, or the warpgroup, has in shared memory by then.
  __device__ __forceinline__ void publish() const {
    fence_shared_for_async();
    __syncthreads();
  }
  __device__ __forceinline__ void publish_in_group() const {
    fence_shared_for_async();
    warpgroup_barrier(group);
  }
};

// Sum over the four lanes that share a row; each gets it.
__device__ __forceinline__ float sum_row(float x) {
  x += __shfl_xor_sync(0xffffffffU, x, 1);
  return x + __shfl_xor_sync(0xffffffffU, x, 2);
}

// A warpgroup's accumulators: dP and dQ, or dN and dK; and sums over the rows that pass by.
template <int kWidth>
struct GradientSums {
  float pairs[8][4], rows[kWidth / 8][4];
  float read[2], error[2];  // ⟨dW, diag(γ) K̂ S⟩ and ⟨dW, E⟩ of the lane's rows, in half of the columns
  float states;             // ⟨S, dS⟩, a share of it
};

}  // namespace braid::cuda::chunked
