// What the two scans share: one block carries 64 columns of one head's state (Dk, Dv) through a segment,
// chunk by chunk. The state lies transposed in the accumulators of kConsumers warps, 16 columns (rows of the
// accumulators) to each, which need nothing of each other; as many warps more only copy the chunks to come
// into shared memory.
#pragma once
#include "braid/backends/cuda/gated_delta/chunk.cuh"

namespace braid::cuda::chunked {

inline constexpr int kConsumers = 4, kScanThreads = 2 * kConsumers * 32, kProducerThreads = kConsumers * 32;

// One chunk in shared memory: K, Q, X (64, kWidth), R (64, 64), and 64 columns of V or dO.
template <int kWidth>
struct Stage {
  static constexpr int kKeys = 0;
  static constexpr int kQueries = kKeys + kChunk * kWidth * 2;
  static constexpr int kWritten = kQueries + kChunk * kWidth * 2;
  static constexpr int kResponse = kWritten + kChunk * kWidth * 2;
  static constexpr int kValues = kResponse + kChunk * kChunk * 2;
  static constexpr int kScalarRows = kValues + kChunk * kSlice * 2;
  static constexpr int kBytes = kScalarRows + kScanScalars * kChunk * 4;
  static constexpr int kMost = 227 * 1024 / kBytes;
  static constexpr int kCount = kMost < 4 ? kMost : 4;
  static_assert(kCount >= 2);
};

// The work of one block.
struct ScanBlock {
  std::int64_t state;                // index of (segment, head)
  std::int64_t begin;                // first token
  std::int64_t slot;                 // of the first chunk
  int tokens, chunks, head, column;  // column: the first of the slice

  __device__ __forceinline__ explicit ScanBlock(const Problem& p) {
    const int slices = (p.value_width + kSlice - 1) / kSlice;
    state = static_cast<std::int64_t>(blockIdx.x / slices);
    column = static_cast<int>(blockIdx.x % slices) * kSlice;
    const auto segment = static_cast<std::int32_t>(state / p.value_heads);
    head = static_cast<int>(state % p.value_heads);
    begin = p.segments.offsets[segment];
    tokens = static_cast<int>(p.segments.offsets[segment + 1] - begin);
    chunks = (tokens + kChunk - 1) / kChunk;
    slot = begin / kChunk + segment;
  }
  __device__ __forceinline__ int rows(int chunk) const { return min(kChunk, tokens - chunk * kChunk); }
  __device__ __forceinline__ std::int64_t unit(const Problem& p, int chunk) const {
    return (slot + chunk) * p.value_heads + head;
  }
};

inline unsigned scan_blocks(const Problem& p) {
  return static_cast<unsigned>(p.segments.count * p.value_heads * ((p.value_width + kSlice - 1) / kSlice));
}

// Copies one chunk; `values` is V or dO.
template <int kWidth>
__device__ __forceinline__ void copy_stage(SharedAddress base, const Problem& p, const ScanBlock& block,
                                           int chunk, const Inputs& in, const bf16* values,
                                           const Chunks& chunks, int thread) {
  using L = Stage<kWidth>;
  const int rows = block.rows(chunk);
  const std::int64_t begin = block.begin + std::int64_t{chunk} * kChunk, unit = block.unit(p, chunk);
  const Rows keys = key_rows(p, begin, block.head), value = value_rows(p, begin, block.head);
  constexpr int n = kProducerThreads;
  const auto* scalars = reinterpret_cast<const bf16*>(chunks.scalars + unit * kScalars * kChunk);
  for (int i = thread; i < kScanScalars * kChunk / 4; i += n) {
    copy_async(base + L::kScalarRows + i * 16, scalars + i * 8, true);
  }
  copy_tile_async<kChunk, n>(Tile<kWidth>{base + L::kKeys}, in.k + keys.first, keys.pitch, rows, p.key_width,
                             thread);
  copy_tile_async<kChunk, n>(Tile<kSlice>{base + L::kValues}, values + value.first + block.column,
                             value.pitch, rows, p.value_width - block.column, thread);
  copy_tile_async<kChunk, n>(Tile<kWidth>{base + L::kQueries}, in.q + keys.first, keys.pitch, rows,
                             p.key_width, thread);
  copy_tile_async<kChunk, n>(Tile<kWidth>{base + L::kWritten},
                             static_cast<const bf16*>(chunks.written) + unit * kChunk * kWidth, kWidth,
                             kChunk, kWidth, thread);
  copy_tile_async<kChunk, n>(Tile<kChunk>{base + L::kResponse},
                             static_cast<const bf16*>(chunks.response) + unit * kChunk * kChunk, kChunk,
                             kChunk, kChunk, thread);
}

// The other warps' part: chunk order(0), order(1), … each in its stage before the barrier with that number.
template <int kWidth, class Order>
__device__ __forceinline__ void produce(SharedAddress memory, const Problem& p, const ScanBlock& block,
                                        const Inputs& in, const bf16* values, const Chunks& chunks,
                                        int thread, Order order) {
  using L = Stage<kWidth>;
  const auto copy = [&](int i) {
    if (i < block.chunks) {
      copy_stage<kWidth>(memory + i % L::kCount * L::kBytes, p, block, order(i), in, values, chunks, thread);
    }
    commit_copies();
  };
  for (int i = 0; i < L::kCount - 1; ++i) copy(i);
  for (int i = 0; i < block.chunks; ++i) {
    wait_for_copies<L::kCount - 2>();
    block_barrier<kScanThreads>();
    copy(i + L::kCount - 1);
  }
}

// A transposed matrix in bf16 (16 columns of it, 16 kPairs rows, as left operands) to rows of `out` at
// `pitch`, the first `rows` of them, through 16 columns of `staging` that belong to this warp alone.
template <int kPairs>
__device__ __forceinline__ void store_packed_columns(bf16* out, std::int64_t pitch, int rows,
                                                     const std::uint32_t (&x)[kPairs][4],
                                                     unsigned char* staging, int packet, int lane) {
  const Tile<kSlice> tile{shared_address(staging)};
#pragma unroll
  for (int group = 0; group < kPairs; group += 4) {
    __syncwarp();
#pragma unroll
    for (int pair = 0; pair < 4 && group + pair < kPairs; ++pair) {
      store_matrices_transposed(tile.columns_first(16 * pair, packet, lane), x[group + pair]);
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = 16 * i + lane / 2, to = 16 * group + row;
      if (to < 16 * kPairs && to < rows) {
        *reinterpret_cast<uint4*>(out + to * pitch + lane % 2 * 8) =
            *reinterpret_cast<const uint4*>(staging + Tile<kSlice>::offset(row, packet + lane % 2));
      }
    }
  }
}
// The same from accumulators, times a factor.
template <int kTiles>
__device__ __forceinline__ void store_columns(bf16* out, std::int64_t pitch, int rows,
                                              const float (&x)[kTiles][4], float factor,
                                              unsigned char* staging, int packet, int lane) {
  std::uint32_t packed[kTiles / 2][4];
#pragma unroll
  for (int pair = 0; pair < kTiles / 2; ++pair) {
    pack_pair<PackedBf16>(packed[pair], x[2 * pair], x[2 * pair + 1], factor);
  }
  store_packed_columns(out, pitch, rows, packed, staging, packet, lane);
}

// The f32 state (Dk, Dv) at `state` (this warp's first column), to and from accumulators. Null: zero.
template <int kTiles>
__device__ __forceinline__ void load_state(float (&x)[kTiles][4], const float* state, std::int64_t pitch,
                                           int rows, int lane) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int row = 8 * tile + 2 * (lane % 4) + c % 2, column = lane / 4 + c / 2 * 8;
      x[tile][c] = state != nullptr && row < rows ? state[row * pitch + column] : 0.0F;
    }
  }
}
template <int kTiles>
__device__ __forceinline__ void store_state(float* state, const float (&x)[kTiles][4], std::int64_t pitch,
                                            int rows, int lane) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int row = 8 * tile + 2 * (lane % 4) + c % 2, column = lane / 4 + c / 2 * 8;
      if (row < rows) state[row * pitch + column] = x[tile][c];
    }
  }
}

}  // namespace braid::cuda::chunked
