// The shared memory and the roles of the warps in the gradient kernel.
#pragma once
#include "braid/backends/cuda/gated_delta/chunk.cuh"

namespace braid::cuda::chunked {

inline constexpr int kGradientThreads = 256;

// Sums over a row of the chunk, from the two warps that own halves of it.
enum RowSum : int { kStateQuery, kStateKey, kStateRead, kError, kPairs, kQueryAlong, kKeyAlong, kRowSums };

// What one block keeps in shared memory: the chunk, and 64 columns at a time of all that is as wide as a
// value. The squares of the last part take the place of these.
template <int kWidth>
struct GradientLayout {
  static constexpr int kSquare = kChunk * kChunk * 2;
  static constexpr int kKeys = 0;
  static constexpr int kQueries = kKeys + kChunk * kWidth * 2;
  static constexpr int kPredicted = kQueries + kChunk * kWidth * 2;
  static constexpr int kStates = kPredicted + kSquare;
  static constexpr int kStateGradients = kStates + kWidth * kSlice * 2;
  static constexpr int kValues = kStateGradients + kWidth * kSlice * 2;  // V, then Y
  static constexpr int kOutputs = kValues + kSquare;                     // dO
  static constexpr int kWrites = kOutputs + kSquare;                     // dW
  static constexpr int kDeltas = kWrites + kSquare;                      // Δ
  static constexpr int kScalarRows = kDeltas + kSquare;
  static constexpr int kRowSumRows = kScalarRows + kScalars * kChunk * 4;      // (kRowSums, 2, 64)
  static constexpr int kColumnSums = kRowSumRows + kRowSums * 2 * kChunk * 4;  // (4, 64)
  static constexpr int kReduction = kColumnSums + 4 * kChunk * 4;
  static constexpr int kBytes = kReduction + 32 * 4;
};

// Warp (m, n) of 4 x 2: rows 16 m to 16 m + 15 of the chunk, and the n-th half of the columns.
template <int kWidth>
struct GradientBlock {
  using L = GradientLayout<kWidth>;
  unsigned char* memory;
  int thread, lane, m, n;

  __device__ __forceinline__ explicit GradientBlock(unsigned char* shared)
      : memory(shared),
        thread(static_cast<int>(threadIdx.x)),
        lane(thread % 32),
        m(thread / 32 % 4),
        n(thread / 128) {}

  template <int kTileWidth>
  __device__ __forceinline__ Tile<kTileWidth> tile(int offset) const {
    return {shared_address(memory + offset)};
  }
  // The two rows of the chunk that this lane has in its accumulators.
  __device__ __forceinline__ int row(int half) const { return 16 * m + lane / 4 + 8 * half; }
  __device__ __forceinline__ float* scalars(Scalar which) const {
    return reinterpret_cast<float*>(memory + L::kScalarRows) + which * kChunk;
  }
  // Two values of a tile as this lane has them in an accumulator: columns 8 packet + 2 t and + 1.
  template <int kTileWidth>
  __device__ __forceinline__ std::uint32_t& pair(int offset, int row, int packet) const {
    return *reinterpret_cast<std::uint32_t*>(memory + offset + Tile<kTileWidth>::offset(row, packet) +
                                             lane % 4 * 4);
  }
  // Adds x over the four lanes that share a row; read again as row_sum() after a barrier.
  __device__ __forceinline__ void put_row_sum(RowSum which, int half, float x) const {
    x += __shfl_xor_sync(0xffffffffU, x, 1);
    x += __shfl_xor_sync(0xffffffffU, x, 2);
    if (lane % 4 == 0) row_sums(which, n)[row(half)] = x;
  }
  __device__ __forceinline__ float row_sum(RowSum which, int row) const {
    return row_sums(which, 0)[row] + row_sums(which, 1)[row];
  }
  __device__ __forceinline__ float* row_sums(RowSum which, int column_half) const {
    return reinterpret_cast<float*>(memory + L::kRowSumRows) + (which * 2 + column_half) * kChunk;
  }
  __device__ __forceinline__ float* column_sums(int row_tile) const {
    return reinterpret_cast<float*>(memory + L::kColumnSums) + row_tile * kChunk;
  }
};

// A warp's accumulators: dP and dN (16, 32), dQ and dK (16, kWidth / 2); dots of the rows that pass by.
template <int kWidth>
struct GradientSums {
  static constexpr int kTiles = kWidth / 16;
  float p[4][4], n[4][4], q[kTiles][4], k[kTiles][4];
  float read[2], error[2];  // ⟨dW, diag(γ) K̂ S⟩ and ⟨dW, E⟩ of the lane's rows
  float states;             // ⟨S, dS⟩, a share of it
};

}  // namespace braid::cuda::chunked
