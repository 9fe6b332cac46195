// A few rows (up to 32) on transposed bf16 weights, on tensor cores: c (M, N) = a (M, K) · bᵀ, b (N, K), for
// several b at once; or, gated, c = silu(a · gateᵀ) ⊙ a · upᵀ with b (2N, K) holding gate then up. Bound by
// reading b once, so one block per multiprocessor keeps a ring of boxes of b (and of a) in flight by the copy
// engine. A block takes whole columns, as many as give every block the same, and sums all of K; where few
// columns would leave multiprocessors idle, the blocks of a cluster each sum a piece of K and add up in the
// order of K through their shared memory. Nothing passes through global memory on the way.
#pragma once
#include "braid/backends/cuda/device/async_copy.cuh"
#include "braid/backends/cuda/device/cluster.cuh"
#include "braid/backends/cuda/device/ring.cuh"
#include "braid/backends/cuda/matmul/few_rows_cut.h"
#include "braid/backends/cuda/matmul/streamed.cuh"

namespace braid::cuda::few_rows {

using namespace streamed;

inline constexpr int kConsumers = 8, kConsumerThreads = 32 * kConsumers;
inline constexpr int kThreads = kConsumerThreads + 32;  // and a warp that asks for boxes
inline constexpr int kGroupColumns = 8;                 // of one tensor core product
inline constexpr int kGroupsOfWarp = kMostWidth / (kGroupColumns * kConsumers);

struct Maps {
  CUtensorMap rows, weights[ops::kMostLinearParts];
};

// What one block does: some chunks of K of some tiles.
struct Share {
  std::int32_t first_tile, tiles, first_chunk, chunks;

  __device__ __forceinline__ explicit Share(const Cut& cut) {
    const auto block = static_cast<std::int32_t>(blockIdx.x);
    const std::int32_t cluster = block / cut.split, rank = block % cut.split;
    first_tile = begin(cut.tiles, cluster, cut.clusters);
    tiles = begin(cut.tiles, cluster + 1, cut.clusters) - first_tile;
    first_chunk = begin(cut.chunks, rank, cut.split);
    chunks = begin(cut.chunks, rank + 1, cut.split) - first_chunk;
  }

 private:
  // Where part i of `of` begins: the first are one longer where they are not all equal.
  static __device__ __forceinline__ std::int32_t begin(std::int32_t all, std::int32_t i, std::int32_t of) {
    return i * (all / of) + min(i, all % of);
  }
};

// A chunk of a tile.
struct Unit {
  std::int32_t tile, chunk;
  __device__ __forceinline__ void next(std::int32_t chunks) {
    if (++chunk == chunks) chunk = 0, ++tile;
  }
};

// The sums of one warp: its units are every eighth of the tile. A unit is a group of columns, or two, the
// gate's and up's.
template <int kRows, bool kGated>
struct Sums {
  static constexpr int kTiles = kRows / 16, kParts = kGated ? 2 : 1, kUnits = kGroupsOfWarp / kParts;
  float values[kUnits][kParts][kTiles][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (auto& unit : values) {
#pragma unroll
      for (auto& part : unit) {
#pragma unroll
        for (auto& tile : part) {
#pragma unroll
          for (float& x : tile) x = 0;
        }
      }
    }
  }
  // `units` of the tile; the boxes of up begin behind those of the gate.
  __device__ __forceinline__ void add_chunk(SharedAddress weights, SharedAddress rows, int units, int warp,
                                            int lane) {
    const int matrix = lane / 8, within = lane % 8;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      std::uint32_t a[2][kTiles][4];
#pragma unroll
      for (int s = 0; s < 2; ++s) {
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
          load_matrices(a[s][t],
                        packet_at(rows, 16 * t + 8 * (matrix % 2) + within, 4 * half + 2 * s + matrix / 2));
        }
      }
#pragma unroll
      for (int i = 0; i < kUnits; ++i) {
        const int unit = warp + kConsumers * i;
        if (unit >= units) break;
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          std::uint32_t w[4];
          load_matrices(
              w, packet_at(weights, kGroupColumns * (part * units + unit) + within, 4 * half + matrix));
#pragma unroll
          for (int s = 0; s < 2; ++s) {
#pragma unroll
            for (int t = 0; t < kTiles; ++t) {
              multiply(PackedBf16{}, values[i][part][t], a[s][t], w[2 * s], w[2 * s + 1]);
            }
          }
        }
      }
    }
  }
};

// Writes a unit whose first column is `column`.
template <int kTiles, int kParts>
__device__ __forceinline__ void finish_unit(const Part& part, std::int64_t column, int rows, int lane,
                                            const float (&sums)[kParts][kTiles][4]) {
#pragma unroll
  for (int i = 0; i < kTiles * 4; ++i) {
    const int m = i / 4 * 16 + i % 4 / 2 * 8 + lane / 4;
    const std::int64_t n = column + lane % 4 * 2 + i % 2;
    if (m >= rows || n >= part.columns) continue;
    const float x = sums[0][i / 4][i % 4];
    if constexpr (kParts == 2) {
      part.finish_gated(m * part.columns + n, x, sums[1][i / 4][i % 4]);
    } else {
      part.finish(m * part.columns + n, x);
    }
  }
}

// Adds the sums of all blocks of the cluster, in the order of K, and writes every split-th unit. They meet in
// the ring, which is empty by now and is not written again.
template <int kRows, bool kGated>
__device__ __forceinline__ void finish_together(const Sums<kRows, kGated>& sums, SharedAddress meeting,
                                                const Cut& cut, const Part& part, std::int64_t column,
                                                int units, int rows, int warp, int lane) {
  using S = Sums<kRows, kGated>;
  const auto place = [&](int unit, int p, int t) {
    return meeting + static_cast<SharedAddress>(((unit * S::kParts + p) * S::kTiles + t) * 32 + lane) * 16;
  };
  block_barrier<kConsumerThreads>();
#pragma unroll
  for (int i = 0; i < S::kUnits; ++i) {
    const int unit = warp + kConsumers * i;
    if (unit >= units) break;
#pragma unroll
    for (int p = 0; p < S::kParts; ++p) {
#pragma unroll
      for (int t = 0; t < S::kTiles; ++t) store_shared(place(unit, p, t), sums.values[i][p][t]);
    }
  }
  arrive_at_cluster();
  wait_for_cluster();
  const int rank = static_cast<int>(blockIdx.x) % cut.split;
  for (int unit = rank + cut.split * warp; unit < units; unit += cut.split * kConsumers) {
    float all[S::kParts][S::kTiles][4] = {};
    for (int other = 0; other < cut.split; ++other) {
#pragma unroll
      for (int p = 0; p < S::kParts; ++p) {
#pragma unroll
        for (int t = 0; t < S::kTiles; ++t) add_shared_of(other, place(unit, p, t), all[p][t]);
      }
    }
    finish_unit(part, column + kGroupColumns * unit, rows, lane, all);
  }
  arrive_at_cluster();  // no block leaves while another reads its memory
  wait_for_cluster();
}

template <int kRows, bool kGated>
__global__ void __launch_bounds__(kThreads)
    few_rows_kernel(__grid_constant__ const Parts parts, __grid_constant__ const Maps maps, const Cut cut,
                    int rows, bool ahead) {
  using S = Sums<kRows, kGated>;
  extern __shared__ unsigned char memory[];
  const int weight_bytes = cut.width * kDepth * 2, stage_bytes = weight_bytes + kRows * kDepth * 2;
  const SharedAddress boxes = (shared_address(memory) + 1023) / 1024 * 1024,
                      full = boxes + cut.stages * stage_bytes, empty = full + cut.stages * 8;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int outputs = cut.width / S::kParts;  // columns of c that a tile has
  const Share share(cut);
  if (threadIdx.x == 0) {
    for (int s = 0; s < cut.stages; ++s) {
      init_barrier(full + s * 8, 1);
      init_barrier(empty + s * 8, kConsumers);
    }
    publish_barriers();
  }
  __syncthreads();
  let_next_start();

  if (warp == kConsumers) {
    if (lane != 0) return;
    prefetch_map(maps.rows);
    const CachePolicy once = used_once();
    const std::int32_t total = share.tiles * share.chunks, filled = min(cut.stages, total);
    int part = 0;
    std::int32_t column = 0;
    // Chunk after chunk, tile after tile.
    const auto ask_weights = [&](Unit& unit, int s) {
      if (unit.chunk == 0) {
        part = parts.index_of_block(unit.tile);
        column = (unit.tile - parts.parts[part].first_block) * outputs;
      }
      const std::int32_t depth = (share.first_chunk + unit.chunk) * kDepth;
      const SharedAddress to = boxes + s * stage_bytes;
      arrive_expecting(full + s * 8, stage_bytes);
      copy_box(to, maps.weights[part], full + s * 8, once, depth, column);
      if constexpr (kGated) {
        copy_box(to + weight_bytes / 2, maps.weights[part], full + s * 8, once, depth,
                 static_cast<std::int32_t>(parts.parts[part].columns) + column);
      }
      unit.next(share.chunks);
    };
    const auto ask_rows = [&](Unit& unit, int s) {
      copy_box(boxes + s * stage_bytes + weight_bytes, maps.rows, full + s * 8,
               (share.first_chunk + unit.chunk) * kDepth, 0);
      unit.next(share.chunks);
    };
    Unit weights{share.first_tile, 0}, row{share.first_tile, 0};
    if (!ahead) wait_for_earlier();
    for (std::int32_t u = 0; u < filled; ++u) ask_weights(weights, u);
    if (ahead) wait_for_earlier();
    for (std::int32_t u = 0; u < filled; ++u) ask_rows(row, u);
    Turn turn;
    for (std::int32_t u = filled; u < total; ++u) {
      wait_for_phase(empty + turn.stage * 8, turn.parity);
      ask_weights(weights, turn.stage);
      ask_rows(row, turn.stage);
      turn.next(cut.stages);
    }
    return;
  }

  wait_for_earlier();
  const int units = outputs / kGroupColumns;
  S sums;
  Turn turn;
  for (std::int32_t tile = share.first_tile; tile < share.first_tile + share.tiles; ++tile) {
    sums.clear();
    for (std::int32_t chunk = 0; chunk < share.chunks; ++chunk) {
      const SharedAddress box = boxes + turn.stage * stage_bytes;
      wait_for_phase(full + turn.stage * 8, turn.parity);
      sums.add_chunk(box, box + weight_bytes, units, warp, lane);
      __syncwarp();
      if (lane == 0) arrive(empty + turn.stage * 8);
      turn.next(cut.stages);
    }
    const Part& part = parts.of_block(tile);
    const std::int64_t column = std::int64_t{tile - part.first_block} * outputs;
    if (cut.split > 1) {
      finish_together(sums, boxes, cut, part, column, units, rows, warp, lane);
      continue;
    }
#pragma unroll
    for (int i = 0; i < S::kUnits; ++i) {
      const int unit = warp + kConsumers * i;
      if (unit >= units) break;
      finish_unit(part, column + kGroupColumns * unit, rows, lane, sums.values[i]);
    }
  }
}

}  // namespace braid::cuda::few_rows
