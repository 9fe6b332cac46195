// A few rows (up to 32) on transposed bf16 weights, on tensor cores: c (M, N) = a (M, K) · bᵀ, b (N, K), for
// several b at once. Bound by reading b once, so one block per multiprocessor keeps a ring of boxes of b (and
// of a) in flight by the copy engine. The work is a line of chunks, kDepth elements of K of kColumns columns
// each, cut evenly among the blocks wherever that falls ("stream-K"): a column block whose chunks fall to
// several blocks is summed by the one that ends last, in the order of K.
#pragma once
#include "braid/backends/cuda/device/async_copy.cuh"
#include "braid/backends/cuda/matmul/streamed.cuh"

namespace braid::cuda::few_rows {

using namespace streamed;

inline constexpr int kColumns = 128,
                     kDepth = 64;  // of a chunk; kDepth is one row of the copy engine's swizzle
inline constexpr int kConsumers = kColumns / 16, kConsumerThreads = 32 * kConsumers;
inline constexpr int kThreads = kConsumerThreads + 32;  // and a warp that asks for boxes

// kRows: 16 or 32. The longer the ring, the more of it fills while the kernels ahead of this one end.
template <int kRows>
struct Stage {
  static constexpr int kWeightBytes = kColumns * kDepth * 2, kRowBytes = kRows * kDepth * 2;
  static constexpr int kBytes = kWeightBytes + kRowBytes;
  static constexpr int kCount = 216 * 1024 / kBytes;
  // A box must lie on a boundary of 1024 bytes, which dynamic shared memory need not.
  static constexpr int kSharedBytes = kCount * (kBytes + 16) + 1024;
};

// How chunks are shared out.
struct Cut {
  std::int32_t chunks;  // of a column block
  std::int32_t total;   // of all column blocks
  std::int32_t shares;

  __host__ __device__ __forceinline__ std::int32_t begin(std::int32_t share) const {
    return static_cast<std::int32_t>(std::int64_t{total} * share / shares);
  }
  __host__ __device__ __forceinline__ std::int32_t share_of(std::int32_t chunk) const {
    return static_cast<std::int32_t>((std::int64_t{chunk + 1} * shares + total - 1) / total) - 1;
  }
};

struct Maps {
  CUtensorMap rows, weights[ops::kMostLinearParts];
};

struct Workspace {
  float* sums;  // (shares, 2, kRows / 8 · 4, kConsumerThreads): first and last column block of a share
  std::uint32_t* arrived;  // of each column block: zeros, and zeros again when the kernel ends
};

// Where 16 bytes of a box's row lie: packets are permuted by the row.
__device__ __forceinline__ SharedAddress packet_at(SharedAddress box, int row, int packet) {
  return box + row * (kDepth * 2) + ((packet ^ (row & 7)) << 4);
}

__device__ __forceinline__ std::uint32_t load_acquire(const std::uint32_t* from) {
  std::uint32_t x;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(x) : "l"(from) : "memory");
  return x;
}

// The sums of one warp: 16 columns, kRows rows.
template <int kRows>
struct Sums {
  static constexpr int kTiles = kRows / 8;
  float values[kTiles][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (auto& tile : values) {
#pragma unroll
      for (float& x : tile) x = 0;
    }
  }
  __device__ __forceinline__ void add_chunk(SharedAddress weights, SharedAddress rows, int warp, int lane) {
    const int matrix = lane / 8, within = lane % 8;
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
      std::uint32_t w[4];
      load_matrices(w, packet_at(weights, 16 * warp + 8 * (matrix % 2) + within, 2 * k + matrix / 2));
#pragma unroll
      for (int pair = 0; pair < kTiles / 2; ++pair) {
        std::uint32_t x[4];
        load_matrices(x, packet_at(rows, 16 * pair + 8 * (matrix / 2) + within, 2 * k + matrix % 2));
        multiply(PackedBf16{}, values[2 * pair], w, x[0], x[1]);
        multiply(PackedBf16{}, values[2 * pair + 1], w, x[2], x[3]);
      }
    }
  }
  // To and from a slot of the workspace: neighbouring threads side by side.
  __device__ __forceinline__ void store(float* slot) const {
#pragma unroll
    for (int i = 0; i < kTiles * 4; ++i) __stcg(slot + i * kConsumerThreads, values[i / 4][i % 4]);
  }
  __device__ __forceinline__ void add(const float* slot) {
#pragma unroll
    for (int i = 0; i < kTiles * 4; ++i) values[i / 4][i % 4] += __ldcg(slot + i * kConsumerThreads);
  }
  __device__ __forceinline__ void add(const Sums& other) {
#pragma unroll
    for (int i = 0; i < kTiles * 4; ++i) values[i / 4][i % 4] += other.values[i / 4][i % 4];
  }
  __device__ __forceinline__ void finish(const Part& part, std::int64_t column, int rows, int warp,
                                         int lane) const {
#pragma unroll
    for (int i = 0; i < kTiles * 4; ++i) {
      const int m = i / 4 * 8 + lane % 4 * 2 + i % 2;
      const std::int64_t n = column + 16 * warp + i % 4 / 2 * 8 + lane / 4;
      if (m < rows && n < part.columns) part.finish(m * part.columns + n, values[i / 4][i % 4]);
    }
  }
};

template <int kRows>
__global__ void __launch_bounds__(kThreads)
    few_rows_kernel(__grid_constant__ const Parts parts, __grid_constant__ const Maps maps, Cut cut,
                    Workspace workspace, int rows, bool constant_weights) {
  using S = Stage<kRows>;
  extern __shared__ unsigned char memory[];
  const SharedAddress boxes = (shared_address(memory) + 1023) / 1024 * 1024,
                      full = boxes + S::kCount * S::kBytes, empty = full + S::kCount * 8;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const std::int32_t share = static_cast<std::int32_t>(blockIdx.x), begin = cut.begin(share),
                     end = cut.begin(share + 1);
  if (threadIdx.x == 0) {
    for (int s = 0; s < S::kCount; ++s) {
      init_barrier(full + s * 8, 1);
      init_barrier(empty + s * 8, kConsumers);
    }
    publish_barriers();
  }
  __syncthreads();
  let_next_start();

  if (warp == kConsumers) {
    if (lane != 0) return;
    const auto stage_of = [&](std::int32_t u) { return (u - begin) % S::kCount; };
    const auto ask_weights = [&](std::int32_t u) {
      const int s = stage_of(u);
      const std::int32_t block = u / cut.chunks;
      const int p = parts.index_of_block(block);
      arrive_expecting(full + s * 8, S::kBytes);
      copy_box(boxes + s * S::kBytes, maps.weights[p], full + s * 8, u % cut.chunks * kDepth,
               (block - parts.parts[p].first_block) * kColumns);
    };
    const auto ask_rows = [&](std::int32_t u) {
      const int s = stage_of(u);
      copy_box(boxes + s * S::kBytes + S::kWeightBytes, maps.rows, full + s * 8, u % cut.chunks * kDepth, 0);
    };
    const std::int32_t filled = min(begin + S::kCount, end);
    if (!constant_weights) wait_for_earlier();
    for (std::int32_t u = begin; u < filled; ++u) ask_weights(u);
    if (constant_weights) wait_for_earlier();
    for (std::int32_t u = begin; u < filled; ++u) ask_rows(u);
    for (std::int32_t u = filled; u < end; ++u) {
      wait_for_phase(empty + stage_of(u) * 8, ((u - begin) / S::kCount - 1) % 2);
      ask_weights(u);
      ask_rows(u);
    }
    return;
  }

  wait_for_earlier();
  Sums<kRows> sums;
  constexpr std::int64_t kSlot = std::int64_t{Sums<kRows>::kTiles} * 4 * kConsumerThreads;
  for (std::int32_t u = begin; u < end;) {
    const std::int32_t block = u / cut.chunks, first = block * cut.chunks, next = first + cut.chunks,
                       stop = min(next, end);
    sums.clear();
    for (; u < stop; ++u) {
      const int turn = (u - begin) / S::kCount, s = (u - begin) % S::kCount;
      const SharedAddress box = boxes + s * S::kBytes;
      wait_for_phase(full + s * 8, turn % 2);
      sums.add_chunk(box, box + S::kWeightBytes, warp, lane);
      __syncwarp();
      if (lane == 0) arrive(empty + s * 8);
    }
    const Part& part = parts.of_block(block);
    const std::int64_t column = std::int64_t{block - part.first_block} * kColumns;
    const std::int32_t from = cut.share_of(first), to = cut.share_of(next - 1);
    if (from != to) {
      // A share's first column block may have begun in another; its slot is the first then, else the second.
      const auto slot = [&](std::int32_t i) {
        return workspace.sums + (2 * i + (cut.begin(i) > first ? 0 : 1)) * kSlot + threadIdx.x;
      };
      const auto others = static_cast<std::uint32_t>(to - from);
      // Where all others have been here before, these sums need not go through memory.
      const bool one = threadIdx.x == 0;
      if (!any_of_block<kConsumerThreads>(one && load_acquire(workspace.arrived + block) == others)) {
        sums.store(slot(share));
        __threadfence();
        block_barrier<kConsumerThreads>();
        if (!any_of_block<kConsumerThreads>(one && atomicAdd(workspace.arrived + block, 1U) == others))
          continue;
        __threadfence();
      }
      if (one) workspace.arrived[block] = 0;
      Sums<kRows> all;
      all.clear();
      for (std::int32_t i = from; i <= to; ++i) i == share ? all.add(sums) : all.add(slot(i));
      sums = all;
    }
    sums.finish(part, column, rows, warp, lane);
  }
}

}  // namespace braid::cuda::few_rows
