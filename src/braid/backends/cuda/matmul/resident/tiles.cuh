// What kernels for products of many rows of at most 256 elements share; forward.cuh and backward.cuh compute
// SwiGLU, its gradient and that of gated norms beside them. A block keeps its columns of the weights in
// shared memory; rows pass by, 64 at a time. Two warpgroups take turns with them: while the products of one
// run, the other finishes and stores.
//
// Floor, with N rows of K elements: products of M columns in all write 2 N M bytes; SwiGLU of F hidden
// columns writes 6 N F forward, and reads and writes 8 N F backward. The rows come from L2 once for every
// block of columns.
#pragma once
#include "braid/backends/cuda/device/async_copy.cuh"
#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/tile.cuh"
#include "braid/backends/cuda/device/wgmma.cuh"

namespace braid::cuda::resident {

inline constexpr int kRows = 64;      // that pass by together
inline constexpr int kWarpRows = 16;  // of these
inline constexpr int kColumns = 128;  // of a block: hidden ones, or half of a product's
inline constexpr int kGroups = 2, kGroupThreads = 128;

// The copy engine's boxes: 64 columns, a line of 128 bytes, by 64 rows.
inline constexpr int kBoxColumns = 64, kLine = kBoxColumns * 2, kBoxBytes = kRows * kLine;
using Box = Tile<kBoxColumns>;
inline constexpr int kColumnBoxes = kColumns / kBoxColumns;
inline constexpr int kMostInner = 4 * kBoxColumns;

// Of SwiGLU.
struct Maps {
  CUtensorMap rows;     // x, or dout: (N, K)
  CUtensorMap weights;  // (2F, K), or (K, F)
  CUtensorMap gate_up;  // (N, 2F): results of forward, where they are kept, and read by backward
  CUtensorMap y;        // (N, F), of forward
};

struct Problem {
  std::int64_t rows;
  int blocks;   // to a row: each has its own columns
  int workers;  // so many times these blocks share the rows
  // Of a row whose blocks have 128 columns each.
  __host__ __device__ int width() const { return blocks * kColumns; }
};

// A block's place in a row, and its tiles of rows.
struct Share {
  int place, first, tiles;

  __device__ __forceinline__ explicit Share(const Problem& p) {
    const int block = static_cast<int>(blockIdx.x);
    const auto all = (p.rows + kRows - 1) / kRows, worker = std::int64_t{block / p.blocks};
    place = block % p.blocks;
    first = static_cast<int>(all * worker / p.workers);
    tiles = static_cast<int>(all * (worker + 1) / p.workers) - first;
  }
  __device__ __forceinline__ std::int64_t row(int i) const { return std::int64_t{first + i} * kRows; }
};

// Places for a block's tiles, the i-th one's is i % kStages: kBoxes boxes each. Group i % kGroups works on
// tile i, and sees its own tiles' barriers alone: with one barrier to a place that groups share, a group
// could take the phase before for that of a tile that is still on its way to the other group.
template <int kStages, int kBoxes>
struct Ring {
  static constexpr int kBytes = kStages * kBoxes * kBoxBytes;
  static constexpr int kTurns = kStages * kGroups;  // barriers: place and group come again together by then
  static constexpr int kBarrierBytes = (kTurns + kStages) * 8;
  SharedAddress places, barriers;

  __device__ __forceinline__ SharedAddress box(int i, int box) const {
    return places + static_cast<SharedAddress>((i % kStages * kBoxes + box) * kBoxBytes);
  }
  __device__ __forceinline__ SharedAddress full(int i) const {
    return barriers + static_cast<SharedAddress>(i % kTurns * 8);
  }
  __device__ __forceinline__ SharedAddress empty(int i) const {
    return barriers + static_cast<SharedAddress>((kTurns + i % kStages) * 8);
  }

  __device__ __forceinline__ void init() const {
    for (int i = 0; i < kTurns; ++i) init_barrier(full(i), 1);
    for (int i = 0; i < kStages; ++i) init_barrier(empty(i), kGroupThreads);
  }
  // By the thread that copies, before tile i's boxes.
  __device__ __forceinline__ void open(int i) const {
    if (i >= kStages) wait_for_phase(empty(i), (i / kStages + 1) % 2);
    arrive_expecting(full(i), kBoxes * kBoxBytes);
  }
  __device__ __forceinline__ void wait_full(int i) const { wait_for_phase(full(i), i / kTurns % 2); }
  // By every thread of the group that the tile was for.
  __device__ __forceinline__ void release(int i) const { arrive(empty(i)); }
};

// Weights whose lines run along their columns: boxes of 64 columns, each with all lines.
template <int kBoxes>
__device__ __forceinline__ std::uint64_t weight_lines(SharedAddress weights, int k) {
  return matrix_descriptor(weights + k * 16 * kLine, kBoxes * kBoxBytes, 8 * kLine, RowSwizzle::bytes128);
}

}  // namespace braid::cuda::resident
