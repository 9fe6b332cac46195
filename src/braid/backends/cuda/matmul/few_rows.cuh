// A few rows (up to 32) on transposed bf16 weights, on tensor cores: c (M, N) = a (M, K) · bᵀ, b (N, K), for
// several b at once. Bound by reading b once: a block has some columns, and the copy engine keeps a ring of
// boxes of b (and of a) in flight for it, which fills most of the multiprocessor's shared memory. The warps
// share out K, so that nothing is summed across blocks: an element's order of additions depends on K alone.
#pragma once
#include "braid/backends/cuda/device/async_copy.cuh"
#include "braid/backends/cuda/matmul/streamed.cuh"

namespace braid::cuda::few_rows {

using namespace streamed;

inline constexpr int kDepth = 64;  // elements of K in a box: one row of the copy engine's swizzle
inline constexpr int kSteps = kDepth / 16, kConsumers = 2 * kSteps;  // each warp: one step of every other box
inline constexpr int kConsumerThreads = 32 * kConsumers;
inline constexpr int kThreads = kConsumerThreads + 32;  // and a warp that asks for boxes

// kRows: 16 or 32. kTiles: of 16 columns, in a block.
template <int kRows, int kTiles>
struct Ring {
  static constexpr int kColumns = 16 * kTiles;
  static constexpr int kWeightBytes = kColumns * kDepth * 2, kRowBytes = kRows * kDepth * 2;
  static constexpr int kStageBytes = kWeightBytes + kRowBytes;
  static constexpr int kStages = 216 * 1024 / kStageBytes;
  // Boxes must lie on boundaries of 1024 bytes, which dynamic shared memory need not.
  static constexpr int kSharedBytes = kStages * (kStageBytes + 16) + 1024;
  static constexpr int kPitch = kColumns + 4;  // of a row of sums, so that a warp's stores meet few banks
  static_assert(kConsumers * kRows * kPitch * 4 <= kStages * kStageBytes);
};

struct Maps {
  CUtensorMap rows, weights[ops::kMostLinearParts];
};

// Where 16 bytes of a box's row lie: packets are permuted by the row.
__device__ __forceinline__ SharedAddress packet_at(SharedAddress box, int row, int packet) {
  return box + row * (kDepth * 2) + ((packet ^ (row & 7)) << 4);
}

// One warp's share of the sums.
template <int kRows, int kTiles>
struct Sums {
  static constexpr int kGroups = kRows / 8;
  float values[kTiles][kGroups][4] = {};

  // Elements 16 · step to 16 · step + 15 of the boxes' K.
  __device__ __forceinline__ void add(SharedAddress weights, SharedAddress rows, int step, int lane) {
    const int matrix = lane / 8, within = lane % 8;
    std::uint32_t x[kGroups / 2][4];
#pragma unroll
    for (int pair = 0; pair < kGroups / 2; ++pair) {
      load_matrices(x[pair], packet_at(rows, 16 * pair + 8 * (matrix / 2) + within, 2 * step + matrix % 2));
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      std::uint32_t w[4];
      load_matrices(w, packet_at(weights, 16 * tile + 8 * (matrix % 2) + within, 2 * step + matrix / 2));
#pragma unroll
      for (int pair = 0; pair < kGroups / 2; ++pair) {
        multiply(PackedBf16{}, values[tile][2 * pair], w, x[pair][0], x[pair][1]);
        multiply(PackedBf16{}, values[tile][2 * pair + 1], w, x[pair][2], x[pair][3]);
      }
    }
  }
  // `sums`: this warp's (kRows, kPitch).
  __device__ __forceinline__ void store(float* sums, int lane) const {
    constexpr int kPitch = Ring<kRows, kTiles>::kPitch;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int row = 8 * group + 2 * (lane % 4) + i % 2, column = 16 * tile + lane / 4 + i / 2 * 8;
          sums[row * kPitch + column] = values[tile][group][i];
        }
      }
    }
  }
};

// One block for every Ring::kColumns columns of each part. With constant weights the ring fills before
// the kernels ahead of this one are done.
template <int kRows, int kTiles>
__global__ void __launch_bounds__(kThreads, 1)
    few_rows_kernel(__grid_constant__ const Parts parts, __grid_constant__ const Maps maps, int rows,
                    int inner, bool constant_weights) {
  using R = Ring<kRows, kTiles>;
  extern __shared__ unsigned char memory[];
  const SharedAddress unaligned = shared_address(memory), boxes = (unaligned + 1023) / 1024 * 1024,
                      full = boxes + R::kStages * R::kStageBytes, empty = full + R::kStages * 8;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int p = parts.index_of_block(static_cast<std::int32_t>(blockIdx.x));
  const Part& part = parts.parts[p];
  const int column = (static_cast<int>(blockIdx.x) - part.first_block) * R::kColumns,
            chunks = (inner + kDepth - 1) / kDepth;
  if (threadIdx.x == 0) {
    for (int s = 0; s < R::kStages; ++s) {
      init_barrier(full + s * 8, 1);
      init_barrier(empty + s * 8, kSteps);
    }
    publish_barriers();
  }
  __syncthreads();
  let_next_start();

  if (warp == kConsumers) {
    if (lane != 0) return;
    const auto ask_weights = [&](int chunk) {
      const int s = chunk % R::kStages;
      arrive_expecting(full + s * 8, R::kStageBytes);
      copy_box(boxes + s * R::kStageBytes, maps.weights[p], full + s * 8, chunk * kDepth, column);
    };
    const auto ask_rows = [&](int chunk) {
      const int s = chunk % R::kStages;
      copy_box(boxes + s * R::kStageBytes + R::kWeightBytes, maps.rows, full + s * 8, chunk * kDepth, 0);
    };
    const int filled = min(R::kStages, chunks);
    if (!constant_weights) wait_for_earlier();
    for (int chunk = 0; chunk < filled; ++chunk) ask_weights(chunk);
    if (constant_weights) wait_for_earlier();
    for (int chunk = 0; chunk < filled; ++chunk) ask_rows(chunk);
    for (int chunk = filled; chunk < chunks; ++chunk) {
      wait_for_phase(empty + chunk % R::kStages * 8, (chunk / R::kStages - 1) % 2);
      ask_weights(chunk);
      ask_rows(chunk);
    }
    return;
  }

  wait_for_earlier();
  Sums<kRows, kTiles> mine;
  for (int chunk = warp / kSteps; chunk < chunks; chunk += 2) {
    const int s = chunk % R::kStages;
    const SharedAddress box = boxes + s * R::kStageBytes;
    wait_for_phase(full + s * 8, chunk / R::kStages % 2);
    mine.add(box, box + R::kWeightBytes, warp % kSteps, lane);
    __syncwarp();
    if (lane == 0) arrive(empty + s * 8);
  }
  // All boxes have been read when every consumer is here, so that the sums can lie where they did.
  block_barrier<kConsumerThreads>();
  float* sums = reinterpret_cast<float*>(memory + (boxes - unaligned));
  constexpr int kWarpSums = kRows * R::kPitch;
  mine.store(sums + warp * kWarpSums, lane);
  block_barrier<kConsumerThreads>();
  for (int i = static_cast<int>(threadIdx.x); i < rows * R::kColumns; i += kConsumerThreads) {
    const int row = i / R::kColumns, c = i % R::kColumns;
    if (column + c >= part.columns) continue;
    float total = 0;
#pragma unroll
    for (int w = 0; w < kConsumers; ++w) total += sums[w * kWarpSums + row * R::kPitch + c];
    part.finish(row * part.columns + column + c, total);
  }
}

}  // namespace braid::cuda::few_rows
