// A few rows (up to 32) on transposed bf16 weights, on tensor cores: c (M, N) = a (M, K) · bᵀ, b (N, K), for
// several b at once; or, gated, c = silu(a · gateᵀ) ⊙ a · upᵀ with b (2N, K) holding gate then up. Bound by
// reading b once, so one block per multiprocessor keeps a ring of boxes of b (and of a) in flight by the copy
// engine. A block takes whole columns, as many as give every block the same, and sums all of K; where few
// columns would leave multiprocessors idle, the blocks of a cluster each sum a piece of K and add up in the
// order of K through their shared memory. Nothing passes through global memory on the way. What is in the
// ring when the rows come is time gained only if it is worked off faster than memory fills it: a warp has
// loads and products of several column groups on their way at once.
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

// The sums of one warp: its units are every eighth of the tile's, kUnits or one less. A unit is a group of
// columns, or two, the gate's and up's.
template <int kRows, bool kGated, int kUnitsOfWarp>
struct Sums {
  static constexpr int kTiles = kRows / 16, kParts = kGated ? 2 : 1, kUnits = kUnitsOfWarp;
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
  // `units` of the tile; the boxes of up begin behind those of the gate. A warp that has a unit less takes
  // the tile's last once more, for nothing.
  __device__ __forceinline__ void add_chunk(SharedAddress weights, SharedAddress rows, int units, int warp,
                                            int lane) {
    constexpr int kHalves = 2, kSteps = 2;
    const int matrix = lane / 8, within = lane % 8;
    std::uint32_t a[kHalves][kSteps][kTiles][4], w[kHalves][kUnits][kParts][4];
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
          load_matrices(a[half][s][t],
                        packet_at(rows, 16 * t + 8 * (matrix % 2) + within, 4 * half + 2 * s + matrix / 2));
        }
      }
#pragma unroll
      for (int i = 0; i < kUnits; ++i) {
        const int unit = min(warp + kConsumers * i, units - 1);
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          load_matrices(w[half][i][part], packet_at(weights, kGroupColumns * (part * units + unit) + within,
                                                    4 * half + matrix));
        }
      }
    }
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
#pragma unroll
        for (int i = 0; i < kUnits; ++i) {
#pragma unroll
          for (int part = 0; part < kParts; ++part) {
#pragma unroll
            for (int t = 0; t < kTiles; ++t) {
              const std::uint32_t(&b)[4] = w[half][i][part];
              multiply(PackedBf16{}, values[i][part][t], a[half][s][t], b[2 * s], b[2 * s + 1]);
            }
          }
        }
      }
    }
  }
};

// Calls f(i, at) for a lane's element i of a unit whose first column is `column`: `at` is where c has it.
template <int kTiles, class F>
__device__ __forceinline__ void for_elements(const Part& part, std::int64_t column, int rows, int lane,
                                             F&& f) {
#pragma unroll
  for (int i = 0; i < kTiles * 4; ++i) {
    const int m = i / 4 * 16 + i % 4 / 2 * 8 + lane / 4;
    const std::int64_t n = column + lane % 4 * 2 + i % 2;
    if (m < rows && n < part.columns) f(i, m * part.columns + n);
  }
}

// Writes a unit.
template <int kTiles, int kParts>
__device__ __forceinline__ void finish_unit(const Part& part, std::int64_t column, int rows, int lane,
                                            const float (&sums)[kParts][kTiles][4]) {
  for_elements<kTiles>(part, column, rows, lane, [&](int i, std::int64_t at) {
    const float x = sums[0][i / 4][i % 4];
    if constexpr (kParts == 2) {
      part.finish_gated(at, x, sums[1][i / 4][i % 4]);
    } else {
      part.finish(at, x);
    }
  });
}

// How the blocks of a cluster finish their one tile: each sends every block the sums of the units which that
// block finishes, every split-th, and adds up what it was sent, in the order of K.
template <class S>
struct Cluster {
  const Cut& cut;
  const Part& part;
  std::int64_t column;
  SharedAddress meeting;  // kept free for what the others send
  int rank, rows, warp, lane;
  // Units that a warp finishes, and what they are added to: asked for long before it is needed.
  static constexpr int kMost = (kMostWidth / kGroupColumns / 2 + kConsumers - 1) / kConsumers;
  float before[kMost][S::kTiles * 4] = {};

  __device__ __forceinline__ int unit(int i) const { return rank + cut.split * (warp + kConsumers * i); }
  __device__ __forceinline__ std::int64_t column_of(int unit) const { return column + kGroupColumns * unit; }
  __device__ __forceinline__ SharedAddress place(int sender, int unit, int p, int t) const {
    const int index = (sender * cut.finished() + unit / cut.split) * S::kParts + p;
    return meeting + static_cast<SharedAddress>((index * S::kTiles + t) * 32 + lane) * 16;
  }

  __device__ __forceinline__ void ask_before() {
    if (part.before == nullptr) return;
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      if (unit(i) >= cut.units) break;
      for_elements<S::kTiles>(part, column_of(unit(i)), rows, lane,
                              [&](int e, std::int64_t at) { before[i][e] = part.load_before(at); });
    }
  }
  __device__ __forceinline__ void finish(const S& sums) const {
    wait_for_cluster();  // all blocks have begun
#pragma unroll
    for (int i = 0; i < S::kUnits; ++i) {
      const int mine = warp + kConsumers * i;
      if (mine >= cut.units) break;
#pragma unroll
      for (int p = 0; p < S::kParts; ++p) {
#pragma unroll
        for (int t = 0; t < S::kTiles; ++t) {
          store_shared_of(mine % cut.split, place(rank, mine, p, t), sums.values[i][p][t]);
        }
      }
    }
    arrive_at_cluster();
    wait_for_cluster();
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      if (unit(i) >= cut.units) break;
      float all[S::kParts][S::kTiles][4] = {};
      for (int sender = 0; sender < cut.split; ++sender) {
#pragma unroll
        for (int p = 0; p < S::kParts; ++p) {
#pragma unroll
          for (int t = 0; t < S::kTiles; ++t) add_shared(place(sender, unit(i), p, t), all[p][t]);
        }
      }
      for_elements<S::kTiles>(part, column_of(unit(i)), rows, lane, [&](int e, std::int64_t at) {
        const float x = all[0][e / 4][e % 4];
        if constexpr (S::kParts == 2) {
          part.finish_gated(at, x, all[1][e / 4][e % 4]);
        } else {
          part.store(at, part.before != nullptr ? x + before[i][e] : x);
        }
      });
    }
  }
};

// Calls f.template operator()<units of a warp>().
template <int kParts, class F>
void visit_units(int units, F&& f) {
  constexpr int kMost = kMostWidth / (kGroupColumns * kConsumers * kParts);
  const int each = (units + kConsumers - 1) / kConsumers;
  if (each <= 1) return f.template operator()<1>();
  if (each == 2 || kMost == 2) return f.template operator()<2>();
  if constexpr (kMost > 2) return each == 3 ? f.template operator()<3>() : f.template operator()<4>();
}

template <int kRows, bool kGated, int kUnits>
__global__ void __launch_bounds__(kThreads, 1)
    few_rows_kernel(__grid_constant__ const Parts parts, __grid_constant__ const Maps maps, const Cut cut,
                    int rows, bool ahead) {
  using S = Sums<kRows, kGated, kUnits>;
  unsigned char* const memory = dynamic_shared();
  const int weight_bytes = cut.width * kDepth * 2, stage_bytes = weight_bytes + kRows * kDepth * 2;
  const SharedAddress boxes = (shared_address(memory) + 1023) / 1024 * 1024,
                      meeting = boxes + cut.stages * stage_bytes, full = meeting + cut.meeting_bytes(kRows),
                      empty = full + cut.stages * 8;
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
  if (cut.split > 1) arrive_at_cluster();
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
  const Part& first = parts.of_block(share.first_tile);
  Cluster<S> cluster{.cut = cut,
                     .part = first,
                     .column = std::int64_t{share.first_tile - first.first_block} * outputs,
                     .meeting = meeting,
                     .rank = static_cast<int>(blockIdx.x) % cut.split,
                     .rows = rows,
                     .warp = warp,
                     .lane = lane};
  if (cut.split > 1) cluster.ask_before();
  S sums;
  Turn turn;
  for (std::int32_t tile = share.first_tile; tile < share.first_tile + share.tiles; ++tile) {
    sums.clear();
    for (std::int32_t chunk = 0; chunk < share.chunks; ++chunk) {
      const SharedAddress box = boxes + turn.stage * stage_bytes;
      wait_for_phase(full + turn.stage * 8, turn.parity);
      sums.add_chunk(box, box + weight_bytes, cut.units, warp, lane);
      give_back(empty + turn.stage * 8, lane);
      turn.next(cut.stages);
    }
    if (cut.split > 1) return cluster.finish(sums);
    const Part& part = parts.of_block(tile);
    const std::int64_t column = std::int64_t{tile - part.first_block} * outputs;
#pragma unroll
    for (int i = 0; i < S::kUnits; ++i) {
      const int unit = warp + kConsumers * i;
      if (unit >= cut.units) break;
      finish_unit(part, column + kGroupColumns * unit, rows, lane, sums.values[i]);
    }
  }
}

}  // namespace braid::cuda::few_rows
