// Gradients of SwiGLU and of gated norms beside the product that comes before them in the backward pass
// (tiles.cuh).
#pragma once
#include "braid/backends/cuda/device/elements.cuh"
#include "braid/backends/cuda/device/swiglu.cuh"
#include "braid/backends/cuda/matmul/resident/tiles.cuh"

namespace braid::cuda::resident {

// 16 rows of a box from `first` on to rows of `out`, of which `rows` exist.
__device__ __forceinline__ void store_box_rows(bf16* out, std::int64_t pitch, std::int64_t rows, Box box,
                                               int first, int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = 4 * i + lane / 8, packet = lane % 8;
    if (row < rows) {
      *reinterpret_cast<uint4*>(out + row * pitch + 8 * packet) = load_shared(box.at(first + row, packet));
    }
  }
}

// Overwrites gate and up by their gradients; two values each; d: of the hidden ones.
__device__ __forceinline__ void swiglu_backward_pair(std::uint32_t& gate, std::uint32_t& up, float d0,
                                                     float d1) {
  const float2 g = PackedBf16::unpack(gate), u = PackedBf16::unpack(up);
  const SwigluGradient first(d0, g.x, u.x), second(d1, g.y, u.y);
  gate = PackedBf16::pack(first.gate, second.gate);
  up = PackedBf16::pack(first.up, second.up);
}

// Two groups, and a warp that copies.
inline constexpr int kCopier = kGroups * kGroupThreads / 32;

template <int kBoxes>
struct BackwardLayout {
  static constexpr int kThreads = 32 * (kCopier + 1);
  static constexpr int kStages = 2, kPairStages = 3, kPairBoxes = 2 * kColumnBoxes;
  static constexpr int kWeightBytes = kBoxes * kColumnBoxes * kBoxBytes;  // by box of columns: all lines
  static constexpr int kRing = kWeightBytes;
  static constexpr int kPairRing = kRing + Ring<kStages, kBoxes>::kBytes;
  static constexpr int kBarriers = kPairRing + Ring<kPairStages, kPairBoxes>::kBytes;
  static constexpr int kPairBarriers = kBarriers + 8 + Ring<kStages, kBoxes>::kBarrierBytes;
  static constexpr int kBytes = kPairBarriers + Ring<kPairStages, kPairBoxes>::kBarrierBytes;
  static_assert(kBytes <= 227 * 1024);
};

// dout times 128 columns of a weight (K, F); with each tile of it come two tiles of 128 columns of other
// tensors, the pair, whose gradients overwrite them on their way out.
template <int kBoxes>
struct Backward {
  using L = BackwardLayout<kBoxes>;
  Problem p;
  Share share;
  SharedAddress memory;
  int column;

  __device__ __forceinline__ explicit Backward(const Problem& problem)
      : p(problem),
        share(problem),
        memory(shared_address(aligned_dynamic_shared())),
        column(share.place * kColumns) {}

  __device__ __forceinline__ SharedAddress weights_here() const { return memory + L::kBarriers; }
  __device__ __forceinline__ Ring<L::kStages, kBoxes> ring() const {
    return {memory + L::kRing, memory + L::kBarriers + 8};
  }
  __device__ __forceinline__ Ring<L::kPairStages, L::kPairBoxes> pairs() const {
    return {memory + L::kPairRing, memory + L::kPairBarriers};
  }
  // 64 columns of the pair's first and second tile.
  __device__ __forceinline__ Box first(int i, int part) const { return {pairs().box(i, part)}; }
  __device__ __forceinline__ Box second(int i, int part) const {
    return {pairs().box(i, kColumnBoxes + part)};
  }

  __device__ __forceinline__ void init() const {
    init_barrier(weights_here(), 1);
    ring().init();
    pairs().init();
    publish_barriers();
  }

  // One thread's part; first, second: the tensors of the pair, and where the block's columns begin in them.
  __device__ __forceinline__ void copy(const CUtensorMap& rows, const CUtensorMap& weights,
                                       const CUtensorMap& first, int first_column, const CUtensorMap& second,
                                       int second_column) const {
    arrive_expecting(weights_here(), L::kWeightBytes);
    for (int part = 0; part < kColumnBoxes; ++part) {
      for (int box = 0; box < kBoxes; ++box) {
        copy_box(memory + static_cast<SharedAddress>((part * kBoxes + box) * kBoxBytes), weights,
                 weights_here(), column + part * kBoxColumns, box * kRows);
      }
    }
    for (int i = 0; i < share.tiles; ++i) {
      const int row = static_cast<int>(share.row(i));
      ring().open(i);
      for (int box = 0; box < kBoxes; ++box) {
        copy_box(ring().box(i, box), rows, ring().full(i), box * kBoxColumns, row);
      }
      pairs().open(i);
      for (int part = 0; part < kColumnBoxes; ++part) {
        const int at = part * kBoxColumns;
        copy_box(pairs().box(i, part), first, pairs().full(i), first_column + at, row);
        copy_box(pairs().box(i, kColumnBoxes + part), second, pairs().full(i), second_column + at, row);
      }
    }
  }

  // x = tile i times the weights, when it is there.
  __device__ __forceinline__ void multiply(float (&x)[16][4], int i) const {
    ring().wait_full(i);
    begin_products(x);
#pragma unroll
    for (int k = 0; k < 4 * kBoxes; ++k) {
      const std::uint64_t a =
          matrix_descriptor(ring().box(i, k / 4) + k % 4 * 32, 0, 8 * kLine, RowSwizzle::bytes128);
      if (k > 0) {
        multiply_async<Lines::along_n, true>(PackedBf16{}, x, a, weight_lines<kBoxes>(memory, k));
      } else {
        multiply_async<Lines::along_n, false>(PackedBf16{}, x, a, weight_lines<kBoxes>(memory, k));
      }
    }
    commit_products();
    wait_for_products<0>(x);
    ring().release(i);
  }

  // finish(i, the product's accumulators) of every tile of this warp's group, with its pair there; it leaves
  // gradients in the pair's place, and has them stored.
  template <class Finish>
  __device__ __forceinline__ void compute(int warp, Finish finish) const {
    wait_for_phase(weights_here(), 0);
    for (int i = warp / 4; i < share.tiles; i += kGroups) {
      float x[16][4];
      multiply(x, i);
      pairs().wait_full(i);
      finish(i, x);
      fence_shared_for_async();
      pairs().release(i);
    }
  }

  // This warp's 16 rows of the pair's places, to rows of `to` and of `and_to`.
  __device__ __forceinline__ void store_pair(int i, bf16* to, bf16* and_to, std::int64_t pitch, int warp,
                                             int lane) const {
    const int row = warp % 4 * 16;
    const std::int64_t rows = p.rows - share.row(i) - row, begin = (share.row(i) + row) * pitch;
    __syncwarp();
#pragma unroll
    for (int part = 0; part < kColumnBoxes; ++part) {
      const std::int64_t at = begin + part * kBoxColumns;
      store_box_rows(to + at, pitch, rows, first(i, part), row, lane);
      store_box_rows(and_to + at, pitch, rows, second(i, part), row, lane);
    }
  }
};

// dgate_up (N, 2F): the gradient of gate_up, where that of silu(gate) ⊙ up is dout · weight.
template <int kBoxes>
__global__ void __launch_bounds__(BackwardLayout<kBoxes>::kThreads, 1)
    swiglu_backward_kernel(const __grid_constant__ Maps maps, Problem p, bf16* dgate_up) {
  begin_early();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const Backward<kBoxes> block(p);
  const int width = p.width(), column = block.column;
  if (threadIdx.x == 0) block.init();
  __syncthreads();
  if (warp == kCopier) {
    if (lane == 0) {
      block.copy(maps.rows, maps.weights, maps.gate_up, column, maps.gate_up, width + column);
    }
    return;
  }
  block.compute(warp, [&](int i, const float(&dhidden)[16][4]) {
#pragma unroll
    for (int pair = 0; pair < 4 * kColumnBoxes; ++pair) {
      const auto place = [&](Box box) { return box.rows_first(warp % 4 * 16, pair % 4 * 2, lane); };
      const SharedAddress gate_at = place(block.first(i, pair / 4)), up_at = place(block.second(i, pair / 4));
      std::uint32_t gate[4], up[4];
      load_matrices(gate, gate_at);
      load_matrices(up, up_at);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const auto& d = dhidden[2 * pair + c / 2];
        swiglu_backward_pair(gate[c], up[c], d[c % 2 * 2], d[c % 2 * 2 + 1]);
      }
      store_matrices(gate_at, gate);
      store_matrices(up_at, up);
    }
    block.store_pair(i, dgate_up + column, dgate_up + width + column, 2 * width, warp, lane);
  });
}

// Gated norms of 128 elements, `heads` of them side by side in a row: x · inverse_rms · weight · silu(gate).
struct GatedNorm {
  const float *weight, *inverse_rms;  // (128), (N, heads)
  bf16 *dx, *dgate;                   // (N, heads · 128)
  float* sums;                        // (blocks, 128), the blocks' parts of dweight
};
struct GatedNormMaps {
  CUtensorMap rows, weights, x, gate;  // dout (N, K), weight (K, heads · 128), and two of (N, heads · 128)
};

// One warp's rows of a tile, and its sums for dweight over all tiles: two columns of each 8.
template <int kBoxes>
struct GatedNormRows {
  const Backward<kBoxes>& block;
  const GatedNorm& norm;
  int warp, lane;
  float dweight[16][2]{};

  // The gradients of one tile; d: of the norm's results. Formulas as in rms_norm.cuh's backward_kernel.
  __device__ __forceinline__ void finish(int i, float (&d)[16][4]) {
    const std::int64_t row = block.share.row(i) + warp % 4 * 16 + lane / 4;
    const int heads = block.p.blocks, head = block.share.place;
    float r[2], dot[2] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int64_t at = row + 8 * half;
      r[half] = at < block.p.rows ? norm.inverse_rms[at * heads + head] : 0.0F;
    }
    const auto place = [&](Box box, int pair) { return box.rows_first(warp % 4 * 16, pair % 4 * 2, lane); };
#pragma unroll
    for (int pair = 0; pair < 4 * kColumnBoxes; ++pair) {
      const SharedAddress gate_at = place(block.second(i, pair / 4), pair);
      std::uint32_t x[4], gate[4];
      load_matrices(x, place(block.first(i, pair / 4), pair));
      load_matrices(gate, gate_at);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int tile = 2 * pair + c / 2, half = c % 2;
        const auto weight = load_constant<2>(norm.weight + 8 * tile + lane % 4 * 2);
        const float2 xs = PackedBf16::unpack(x[c]), gates = PackedBf16::unpack(gate[c]);
        float dgates[2];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& e = d[tile][2 * half + j];
          const float value = j == 0 ? xs.x : xs.y, g = j == 0 ? gates.x : gates.y;
          const float normed = value * r[half], s = fast_sigmoid(g), silu = g * s;
          dgates[j] = e * normed * weight[j] * silu_slope(silu, s);
          e *= silu;
          dweight[tile][j] = fmaf(e, normed, dweight[tile][j]);
          e *= weight[j];
          dot[half] = fmaf(e, value, dot[half]);
        }
        gate[c] = PackedBf16::pack(dgates[0], dgates[1]);
      }
      store_matrices(gate_at, gate);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      dot[half] += __shfl_xor_sync(0xffffffffU, dot[half], 1);
      dot[half] += __shfl_xor_sync(0xffffffffU, dot[half], 2);
      dot[half] *= r[half] * r[half] / kColumns;
    }
#pragma unroll
    for (int pair = 0; pair < 4 * kColumnBoxes; ++pair) {
      const SharedAddress x_at = place(block.first(i, pair / 4), pair);
      std::uint32_t x[4];
      load_matrices(x, x_at);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int half = c % 2;
        const float* e = d[2 * pair + c / 2] + 2 * half;
        const float2 xs = PackedBf16::unpack(x[c]);
        x[c] =
            PackedBf16::pack(r[half] * fmaf(-xs.x, dot[half], e[0]), r[half] * fmaf(-xs.y, dot[half], e[1]));
      }
      store_matrices(x_at, x);
    }
    block.store_pair(i, norm.dx + block.column, norm.dgate + block.column, block.p.width(), warp, lane);
  }

  // The block's row of sums, when all of its tiles are done: the rings' memory is free then.
  __device__ __forceinline__ void store_sums() {
    auto* const sums = reinterpret_cast<float*>(aligned_dynamic_shared() + BackwardLayout<kBoxes>::kRing);
    block_barrier<kGroups * kGroupThreads>();
#pragma unroll
    for (int tile = 0; tile < 16; ++tile) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float sum = dweight[tile][j];
#pragma unroll
        for (int step = 4; step < 32; step *= 2) sum += __shfl_xor_sync(0xffffffffU, sum, step);
        const int column = 8 * tile + lane % 4 * 2 + j;
        if (lane < 4) sums[warp * kColumns + column] = sum;
      }
    }
    block_barrier<kGroups * kGroupThreads>();
    const int column = static_cast<int>(threadIdx.x);
    if (column >= kColumns) return;
    float total = 0;
#pragma unroll
    for (int w = 0; w < kCopier; ++w) total += sums[w * kColumns + column];
    norm.sums[std::int64_t{blockIdx.x} * kColumns + column] = total;
  }
};

// dx and dgate (N, heads · 128) of gated norms whose results' gradient is dout · weight.
template <int kBoxes>
__global__ void __launch_bounds__(BackwardLayout<kBoxes>::kThreads, 1)
    gated_norm_backward_kernel(const __grid_constant__ GatedNormMaps maps, Problem p, GatedNorm norm) {
  begin_early();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const Backward<kBoxes> block(p);
  if (threadIdx.x == 0) block.init();
  __syncthreads();
  if (warp == kCopier) {
    if (lane == 0) block.copy(maps.rows, maps.weights, maps.x, block.column, maps.gate, block.column);
    return;
  }
  GatedNormRows<kBoxes> rows{block, norm, warp, lane};
  block.compute(warp, [&](int i, float(&d)[16][4]) { rows.finish(i, d); });
  rows.store_sums();
}

}  // namespace braid::cuda::resident
