// Products of many narrow rows, several at once, or with SwiGLU beside them (tiles.cuh).
#pragma once
#include "braid/backends/cuda/device/swiglu.cuh"
#include "braid/backends/cuda/matmul/resident/tiles.cuh"
#include "braid/ops/matmul.h"

namespace braid::cuda::resident {

// Of two values each.
__device__ __forceinline__ std::uint32_t swiglu_pair(std::uint32_t gate, std::uint32_t up) {
  const float2 g = PackedBf16::unpack(gate), u = PackedBf16::unpack(up);
  return PackedBf16::pack(swiglu(g.x, u.x), swiglu(g.y, u.y));
}

// Shared memory of a kernel for rows of kBoxes boxes (64 kBoxes elements, zeros where the tensors end). A
// tile's rows leave it for registers at once, so each group has one place for them; results leave by the copy
// engine, from another.
template <int kBoxes>
struct ForwardLayout {
  // No warp of its own copies: with a ninth warp, one quarter of the multiprocessor would have three to share
  // its registers.
  static constexpr int kThreads = kGroups * kGroupThreads;
  static constexpr int kWeightBytes = kBoxes * 2 * kColumns * kLine;  // by box: both halves' lines
  using Tiles = Ring<kGroups, kBoxes>;
  static constexpr int kResultBytes = kColumnBoxes * kBoxBytes;  // of a group
  static constexpr int kRing = kWeightBytes;
  static constexpr int kResults = kRing + Tiles::kBytes;
  static constexpr int kBarriers = kResults + kGroups * kResultBytes;
  static constexpr int kBytes = kBarriers + 8 + Tiles::kBarrierBytes;
  static_assert(kBytes <= 227 * 1024);
};

// 128 of the 256 columns of a warp's 16 rows of results, as left operands are: 64, then 64 more.
using Half = std::uint32_t[kColumnBoxes][4][4];

// One warp's way out: its rows of its group's place, from where its first lane has the copy engine store
// them.
struct Results {
  SharedAddress place;  // the warp's rows in the first box
  int lane;

  // Calls store(where the first 64 columns are) with 16 rows of `x` there, and 64 more a box further.
  template <class Store>
  __device__ __forceinline__ void send(const Half& x, Store store) const {
    end();
    __syncwarp();
#pragma unroll
    for (int part = 0; part < kColumnBoxes; ++part) {
      const Box box{place + static_cast<SharedAddress>(part * kBoxBytes)};
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) store_matrices(box.rows_first(0, 2 * pair, lane), x[part][pair]);
    }
    fence_shared_for_async();
    __syncwarp();
    if (lane == 0) {
      store(place);
      commit_stores();
    }
  }
  // Until what was sent has left the place.
  __device__ __forceinline__ void end() const {
    if (lane == 0) wait_for_stores_to_read();
  }
};

// Rows times two halves, 128 columns each, of a weight: rows of (M, K), k along its lines, or columns of (K,
// M).
template <int kBoxes, Lines kLines>
struct Forward {
  using L = ForwardLayout<kBoxes>;
  static constexpr int kParts = 2 * kColumnBoxes;  // of 64 columns
  static constexpr bool kAlongK = kLines == Lines::along_k;

  const CUtensorMap& rows;
  Share share;
  SharedAddress memory;

  __device__ __forceinline__ Forward(const Problem& p, const CUtensorMap& map)
      : rows(map), share(p), memory(shared_address(aligned_dynamic_shared())) {}

  __device__ __forceinline__ typename L::Tiles ring() const {
    return {memory + L::kRing, memory + L::kBarriers + 8};
  }
  __device__ __forceinline__ SharedAddress weights_here() const { return memory + L::kBarriers; }
  // The first row of warp `warp` in tile i.
  __device__ __forceinline__ int row(int i, int warp) const {
    return static_cast<int>(share.row(i)) + warp % 4 * kWarpRows;
  }

  __device__ __forceinline__ void init() const {
    init_barrier(weights_here(), 1);
    ring().init();
    publish_barriers();
  }

  // One thread's part; first, second: where the halves begin in the weight.
  __device__ __forceinline__ void begin(const CUtensorMap& weight, int first, int second) const {
    for (int i = 0; i < kGroups; ++i) fetch(i);
    arrive_expecting(weights_here(), L::kWeightBytes);
    for (int part = 0; part < kParts; ++part) {
      const int at =
          part < kColumnBoxes ? first + part * kBoxColumns : second + (part - kColumnBoxes) * kBoxColumns;
      for (int box = 0; box < kBoxes; ++box) {
        const int place = kAlongK ? box * kParts + part : part * kBoxes + box;
        copy_box(memory + static_cast<SharedAddress>(place * kBoxBytes), weight, weights_here(),
                 kAlongK ? box * kBoxColumns : at, kAlongK ? at : box * kRows);
      }
    }
  }
  __device__ __forceinline__ void fetch(int i) const {
    if (i >= share.tiles) return;
    ring().open(i);
    for (int box = 0; box < kBoxes; ++box) {
      copy_box(ring().box(i, box), rows, ring().full(i), box * kBoxColumns, static_cast<int>(share.row(i)));
    }
  }

  // The k-th 16 of k, of all columns.
  __device__ __forceinline__ std::uint64_t weights(int k) const {
    if constexpr (kAlongK) {
      return matrix_descriptor(memory + k / 4 * kParts * kBoxBytes + k % 4 * 32, 0, 8 * kLine,
                               RowSwizzle::bytes128);
    } else {
      return weight_lines<kBoxes>(memory, k);
    }
  }

  // x = tile i times the weights, when it is there. The groups' products take turns: side by side they would
  // end side by side, and nothing would be multiplied while both store.
  __device__ __forceinline__ void multiply(float (&x)[32][4], int i, int warp, int lane) const {
    std::uint32_t left[4 * kBoxes][4];
    ring().wait_full(i);
#pragma unroll
    for (int k = 0; k < 4 * kBoxes; ++k) {
      Box{ring().box(i, k / 4)}.left(left[k], warp % 4 * kWarpRows, k % 4 * 2, lane);
    }
    if (i > 0) wait_for_turn(warp / 4);
    begin_products(x, left);
#pragma unroll
    for (int k = 0; k < 4 * kBoxes; ++k) {
      if (k > 0) {
        multiply_async<kLines, true>(PackedBf16{}, x, left[k], weights(k));
      } else {
        multiply_async<kLines, false>(PackedBf16{}, x, left[k], weights(k));
      }
    }
    commit_products();
    if (i + 1 < share.tiles) pass_turn_to(1 - warp / 4);
    wait_for_products<0>(x, left);
    fence_shared_for_async();
    ring().release(i);
    if (warp % 4 == 0 && lane == 0) fetch(i + kGroups);
  }

  // finish(a tile's first row of this warp, the first half, the second, results) of every tile of this warp's
  // group.
  template <class Finish>
  __device__ __forceinline__ void compute(int warp, int lane, Finish finish) const {
    const int place = L::kResults + warp / 4 * L::kResultBytes + warp % 4 * kWarpRows * kLine;
    const Results results{memory + static_cast<SharedAddress>(place), lane};
    wait_for_phase(weights_here(), 0);
    for (int i = warp / 4; i < share.tiles; i += kGroups) {
      float x[32][4];
      multiply(x, i, warp, lane);
      Half first, second;
#pragma unroll
      for (int pair = 0; pair < 4 * kColumnBoxes; ++pair) {
        pack_pair<PackedBf16>(first[pair / 4][pair % 4], x[2 * pair], x[2 * pair + 1]);
        pack_pair<PackedBf16>(second[pair / 4][pair % 4], x[16 + 2 * pair], x[16 + 2 * pair + 1]);
      }
      finish(row(i, warp), first, second, results);
    }
    results.end();
  }
};

// 128 columns of `to` from `column` on, of those that exist.
template <class... Policy>
__device__ __forceinline__ void store_half(const CUtensorMap& to, SharedAddress from, int column, int row,
                                           Policy... policy) {
#pragma unroll
  for (int part = 0; part < kColumnBoxes; ++part) {
    const SharedAddress at = from + static_cast<SharedAddress>(part * kBoxBytes);
    store_box(to, at, policy..., column + part * kBoxColumns, row);
  }
}

// y (N, F) = silu(gate) ⊙ up, and, if kept, gate_up (N, 2F) = x · weightᵀ.
template <int kBoxes>
__global__ void __launch_bounds__(ForwardLayout<kBoxes>::kThreads, 1)
    swiglu_linear_kernel(const __grid_constant__ Maps maps, Problem p, bool kept) {
  begin_early();
  using Block = Forward<kBoxes, Lines::along_k>;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const Block block(p, maps.rows);
  const int width = p.width(), column = block.share.place * kColumns;
  if (threadIdx.x == 0) {
    block.init();
    block.begin(maps.weights, column, width + column);
  }
  __syncthreads();
  const CachePolicy once = used_once();  // gate and up, and not before the backward pass
  block.compute(warp, lane, [&](int row, Half& gate, const Half& up, const Results& results) {
    if (kept) {
      results.send(gate, [&](SharedAddress at) { store_half(maps.gate_up, at, column, row, once); });
      results.send(up, [&](SharedAddress at) { store_half(maps.gate_up, at, width + column, row, once); });
    }
#pragma unroll
    for (int pair = 0; pair < 4 * kColumnBoxes; ++pair) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        std::uint32_t& x = gate[pair / 4][pair % 4][c];
        x = swiglu_pair(x, up[pair / 4][pair % 4][c]);
      }
    }
    results.send(gate, [&](SharedAddress at) { store_half(maps.y, at, column, row); });
  });
}

// Several products of the same rows. A block has 256 columns of one of them, the last one's fewer.
struct LinearMaps {
  CUtensorMap rows, weights[ops::kMostLinearParts], y[ops::kMostLinearParts];
};
struct LinearWidths {
  int of[ops::kMostLinearParts];
};
__host__ __device__ constexpr int linear_blocks(int width) {
  return (width + 2 * kColumns - 1) / (2 * kColumns);
}

// y (N, M) = x · weightᵀ of weights (M, K), or x · weight of (K, M), for every part.
template <int kBoxes, Lines kLines>
__global__ void __launch_bounds__(ForwardLayout<kBoxes>::kThreads, 1)
    linear_group_kernel(const __grid_constant__ LinearMaps maps, const __grid_constant__ LinearWidths widths,
                        Problem p) {
  begin_early();
  using Block = Forward<kBoxes, kLines>;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const Block block(p, maps.rows);
  int part = 0, place = block.share.place;
  while (place >= linear_blocks(widths.of[part])) place -= linear_blocks(widths.of[part++]);
  const int width = widths.of[part], column = place * 2 * kColumns;
  if (threadIdx.x == 0) {
    block.init();
    block.begin(maps.weights[part], column, column + kColumns);
  }
  __syncthreads();
  const CUtensorMap& y = maps.y[part];
  block.compute(warp, lane, [&](int row, const Half& first, const Half& second, const Results& results) {
    results.send(first, [&](SharedAddress at) { store_half(y, at, column, row); });
    if (column + kColumns >= width) return;
    results.send(second, [&](SharedAddress at) { store_half(y, at, column + kColumns, row); });
  });
}

}  // namespace braid::cuda::resident
