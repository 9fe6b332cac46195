// Products of many narrow rows, several at once, or with SwiGLU beside them (tiles.cuh).
#pragma once
#include "braid/backends/cuda/device/swiglu.cuh"
#include "braid/backends/cuda/matmul/resident/tiles.cuh"
#include "braid/ops/matmul.h"

namespace braid::cuda::resident {

// 64 columns of a warp's 16 rows, as left operands are, to rows of `out`, of which `rows` rows and `columns`
// columns exist.
__device__ __forceinline__ void store_columns(bf16* out, std::int64_t pitch, std::int64_t rows, int columns,
                                              const std::uint32_t (&x)[4][4], int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane / 4 + 8 * half;
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      const auto &first = x[2 * group], &second = x[2 * group + 1];
      std::uint32_t packet[4] = {first[half], first[2 + half], second[half], second[2 + half]};
      transpose_quad(packet, lane);
      const int column = 32 * group + lane % 4 * 8;
      if (row >= rows || column >= columns) continue;
      *reinterpret_cast<uint4*>(out + row * pitch + column) = {packet[0], packet[1], packet[2], packet[3]};
    }
  }
}

// Of two values each.
__device__ __forceinline__ std::uint32_t swiglu_pair(std::uint32_t gate, std::uint32_t up) {
  const float2 g = PackedBf16::unpack(gate), u = PackedBf16::unpack(up);
  return PackedBf16::pack(swiglu(g.x, u.x), swiglu(g.y, u.y));
}

// Shared memory of a kernel for rows of kBoxes boxes (64 kBoxes elements, zeros where the tensors end). Three
// tiles: one for each group, and one on its way.
template <int kBoxes>
struct ForwardLayout {
  static constexpr int kStages = 3;
  static constexpr int kWeightBytes = kBoxes * 2 * kColumns * kLine;  // by box: both halves' lines
  static constexpr int kRing = kWeightBytes;
  static constexpr int kBarriers = kRing + Ring<kStages, kBoxes>::kBytes;
  static constexpr int kBytes = kBarriers + 8 + Ring<kStages, kBoxes>::kBarrierBytes;
  static_assert(kBytes <= 227 * 1024);
};

// Rows times two halves, 128 columns each, of a weight: rows of (M, K), k along its lines, or columns of (K,
// M).
template <int kBoxes, Lines kLines>
struct Forward {
  using L = ForwardLayout<kBoxes>;
  // A half of a warp's 16 rows, as left operands are: 64 columns, then 64 more.
  using Half = std::uint32_t[kColumnBoxes][4][4];
  static constexpr int kParts = 2 * kColumnBoxes;  // of 64 columns
  static constexpr bool kAlongK = kLines == Lines::along_k;

  Problem p;
  Share share;
  SharedAddress memory;

  __device__ __forceinline__ explicit Forward(const Problem& problem)
      : p(problem), share(problem), memory(shared_address(aligned_dynamic_shared())) {}

  __device__ __forceinline__ Ring<L::kStages, kBoxes> ring() const {
    return {memory + L::kRing, memory + L::kBarriers + 8};
  }
  __device__ __forceinline__ SharedAddress weights_here() const { return memory + L::kBarriers; }
  // The first row of warp `warp` in tile i.
  __device__ __forceinline__ std::int64_t row(int i, int warp) const { return share.row(i) + warp % 4 * 16; }

  __device__ __forceinline__ void init() const {
    init_barrier(weights_here(), 1);
    ring().init();
    publish_barriers();
  }

  // One thread's part; first, second: where the halves begin in the weight.
  __device__ __forceinline__ void copy(const CUtensorMap& rows, const CUtensorMap& weight, int first,
                                       int second) const {
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
    for (int i = 0; i < share.tiles; ++i) {
      ring().open(i);
      for (int box = 0; box < kBoxes; ++box) {
        copy_box(ring().box(i, box), rows, ring().full(i), box * kBoxColumns, static_cast<int>(share.row(i)));
      }
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

  // finish(i, the first half, the second), rounded, of every tile of this warp's group.
  template <class Finish>
  __device__ __forceinline__ void compute(int warp, Finish finish) const {
    wait_for_phase(weights_here(), 0);
    for (int i = warp / 4; i < share.tiles; i += kGroups) {
      float x[32][4];
      multiply_tile<kLines>(x, ring(), i, [&](int k) { return weights(k); });
      Half first, second;
#pragma unroll
      for (int pair = 0; pair < 4 * kColumnBoxes; ++pair) {
        pack_pair<PackedBf16>(first[pair / 4][pair % 4], x[2 * pair], x[2 * pair + 1]);
        pack_pair<PackedBf16>(second[pair / 4][pair % 4], x[16 + 2 * pair], x[16 + 2 * pair + 1]);
      }
      finish(i, first, second);
    }
  }
};

// y (N, F) = silu(gate) ⊙ up, and, unless null, gate_up (N, 2F) = x · weightᵀ.
template <int kBoxes>
__global__ void __launch_bounds__(kThreads, 1)
    swiglu_linear_kernel(const __grid_constant__ Maps maps, Problem p, bf16* y, bf16* gate_up) {
  begin_early();
  using Block = Forward<kBoxes, Lines::along_k>;
  using Half = typename Block::Half;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const Block block(p);
  const int width = p.width(), column = block.share.place * kColumns;
  if (threadIdx.x == 0) block.init();
  __syncthreads();
  if (warp == kCopier) {
    if (lane == 0) block.copy(maps.rows, maps.weights, column, width + column);
    return;
  }
  block.compute(warp, [&](int i, const Half& gate, const Half& up) {
    const std::int64_t row = block.row(i, warp), rows = p.rows - row;
#pragma unroll
    for (int part = 0; part < kColumnBoxes; ++part) {
      const int at = column + part * kBoxColumns;
      if (gate_up != nullptr) {
        bf16* const kept = gate_up + row * 2 * width + at;
        store_columns(kept, 2 * width, rows, kBoxColumns, gate[part], lane);
        store_columns(kept + width, 2 * width, rows, kBoxColumns, up[part], lane);
      }
      std::uint32_t hidden[4][4];
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
#pragma unroll
        for (int c = 0; c < 4; ++c) hidden[pair][c] = swiglu_pair(gate[part][pair][c], up[part][pair][c]);
      }
      store_columns(y + row * width + at, width, rows, kBoxColumns, hidden, lane);
    }
  });
}

// Several products of the same rows. A block has 256 columns of one of them, the last one's fewer.
struct LinearMaps {
  CUtensorMap rows, weights[ops::kMostLinearParts];
};
struct LinearParts {
  bf16* y[ops::kMostLinearParts];
  int width[ops::kMostLinearParts];
};
__host__ __device__ constexpr int linear_blocks(int width) {
  return (width + 2 * kColumns - 1) / (2 * kColumns);
}

// y (N, M) = x · weightᵀ of weights (M, K), or x · weight of (K, M), for every part.
template <int kBoxes, Lines kLines>
__global__ void __launch_bounds__(kThreads, 1)
    linear_group_kernel(const __grid_constant__ LinearMaps maps, const __grid_constant__ LinearParts parts,
                        Problem p) {
  begin_early();
  using Block = Forward<kBoxes, kLines>;
  using Half = typename Block::Half;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const Block block(p);
  int part = 0, place = block.share.place;
  while (place >= linear_blocks(parts.width[part])) place -= linear_blocks(parts.width[part++]);
  const int width = parts.width[part], column = place * 2 * kColumns;
  if (threadIdx.x == 0) block.init();
  __syncthreads();
  if (warp == kCopier) {
    if (lane == 0) block.copy(maps.rows, maps.weights[part], column, column + kColumns);
    return;
  }
  bf16* const y = parts.y[part] + column;
  block.compute(warp, [&](int i, const Half& first, const Half& second) {
    const std::int64_t row = block.row(i, warp);
#pragma unroll
    for (int box = 0; box < Block::kParts; ++box) {
      const int at = box * kBoxColumns;
      const auto& x = box < kColumnBoxes ? first[box] : second[box - kColumnBoxes];
      store_columns(y + row * width + at, width, p.rows - row, width - column - at, x, lane);
    }
  });
}

}  // namespace braid::cuda::resident
