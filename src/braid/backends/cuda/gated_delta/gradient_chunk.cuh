// Per chunk and value head, from the states and their gradients at both ends and from dW: the gradients of q,
// k, log decay and β. With Δ = T Y the values truly added, E = V − prediction, so Δ = diag(β) E:
//   P' = scale tril(dO Δᵀ) ∘ Γ,  N' = stril(dW Δᵀ) ∘ Γ,  dβ = ⟨dY, E⟩
//   dQ̂ = scale diag(γ) dO Sᵀ + P' K̂
//   dK̂ = −diag(γ) dW Sᵀ − N' K̂ (as reader) + diag(ρ) Δ dSᵀ + P'ᵀ Q̂ − N'ᵀ K̂ (as writer)
//   Z = P' ∘ Q̂ K̂ᵀ − N' ∘ K̂ K̂ᵀ: one matrix for row and column sums, so that what cancels does so exactly
//   dG = q̂·dQ̂ + k̂·reader − k̂·writer (state parts) + row sums − column sums of Z; dlog_decay = Σ of dG from
//   there on
// One warpgroup has P' and dQ̂, the other N' and dK̂; each takes all rows of its own.
#pragma once
#include "braid/backends/cuda/gated_delta/gradient_slices.cuh"

namespace braid::cuda::chunked {

// Row sums of x times the rows of a tile.
template <int kWidth>
__device__ __forceinline__ void dot_rows(float (&sum)[2], const GradientBlock<kWidth>& block,
                                         typename GradientLayout<kWidth>::KeyTile tile,
                                         const float (&x)[kWidth / 8][4]) {
  sum[0] = sum[1] = 0;
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
    std::uint32_t rows[4];
    tile.left(rows, 16 * block.m, 2 * k, block.lane);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 row = PackedBf16::unpack(rows[j]);
      const float(&pair)[4] = x[2 * k + j / 2];
      sum[j % 2] = fmaf(row.x, pair[j % 2 * 2], fmaf(row.y, pair[j % 2 * 2 + 1], sum[j % 2]));
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) sum[half] = sum_row(sum[half]);
}

template <int kWidth>
__device__ __forceinline__ void put_row_sum(const GradientBlock<kWidth>& block, int which,
                                            const float (&sum)[2]) {
  if (block.lane % 4 != 0) return;
#pragma unroll
  for (int half = 0; half < 2; ++half) block.row_sums(which)[block.row(half)] = sum[half];
}

// What the slices summed up: row sums, with the factors that were left out.
template <int kWidth>
__device__ __forceinline__ void finish_sums(const GradientBlock<kWidth>& block, GradientSums<kWidth>& sums,
                                            float scale) {
  float dots[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    sums.read[half] = sum_row(sums.read[half]);
    sums.error[half] = sum_row(sums.error[half]);
    const float factor = block.writes() ? 1.0F : scale * block.scalars(kGamma)[block.row(half)];
#pragma unroll
    for (int tile = 0; tile < kWidth / 8; ++tile) {
      sums.rows[tile][2 * half] *= factor;
      sums.rows[tile][2 * half + 1] *= factor;
    }
  }
  dot_rows(dots, block, block.own_rows(), sums.rows);
  put_row_sum(block, block.writes() ? kStateKey : kStateQuery, dots);
  put_row_sum(block, kStateRead + block.group, sums.read);
  put_row_sum(block, kError + block.group, sums.error);
  const float states = warp_sum(sums.states);
  if (block.lane == 0) block.state_sums()[4 * block.group + block.m] = states;
}

// What gates the lane's two rows: G, the norm of q or k, and the factor of dP or dN.
struct RowGates {
  float sum[2], norm[2], factor[2];

  template <int kWidth>
  __device__ __forceinline__ RowGates(const GradientBlock<kWidth>& block, float scale) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = block.row(half);
      sum[half] = block.scalars(kSum)[i];
      norm[half] = block.own_norms()[i];
      factor[half] = block.writes() ? -missing_factor(block.scalars(kBeta)[i]) : scale;
    }
  }
};

// Eight columns of dP or dN, and of the products of the rows, become P' or −N': in `left` times r_k of the
// column, in `square` times the norm of the row. And the sums of Z.
template <int kWidth>
__device__ __forceinline__ void gate_tile(const GradientBlock<kWidth>& block, const RowGates& rows,
                                          const float (&pairs)[4], const float (&products)[4], int packet,
                                          std::uint32_t* left, std::uint32_t* square,
                                          float (&along_rows)[2]) {
  const int first = 8 * packet + 2 * (block.lane % 4);
  const float2 sum = shared_pair(block.scalars(kSum) + first),
               norm = shared_pair(block.scalars(kKeyNorm) + first);
  float down_columns[2] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = block.row(half);
    float x[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      // Selected at the end: what is not may be anything.
      const bool below = block.writes() ? i > first + c : i >= first + c;
      const float factor = rows.factor[half] * decay(rows.sum[half] - (c == 0 ? sum.x : sum.y));
      const float gated = pairs[2 * half + c] * factor;
      const float product = gated * products[2 * half + c] * rows.norm[half];
      x[c] = below ? gated : 0.0F;
      const float z = below ? (c == 0 ? norm.x : norm.y) * product : 0.0F;
      along_rows[half] += z;
      down_columns[c] += z;
    }
    left[half] = PackedBf16::pack(x[0] * norm.x, x[1] * norm.y);
    square[half] = PackedBf16::pack(x[0] * rows.norm[half], x[1] * rows.norm[half]);
  }
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    float x = down_columns[c];
#pragma unroll
    for (int step = 4; step < 32; step *= 2) x += __shfl_xor_sync(0xffffffffU, x, step);
    if (block.lane < 4) block.column_sums(4 * block.group + block.m)[first + c] = x;
  }
}

// The part-th 32 columns; the squares take the place of dO or dW.
template <int kWidth>
__device__ __forceinline__ void gate_pairs(const GradientBlock<kWidth>& block, const RowGates& rows,
                                           const float (&pairs)[8][4], const float (&products)[4][4],
                                           int part, std::uint32_t (&left)[4][4], float (&along_rows)[2]) {
  const auto squares = block.own_square();
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    const int columns = 2 * part + pair;  // which 16
    std::uint32_t square[4] = {};
    if (columns > block.m) {  // above the diagonal
#pragma unroll
      for (int j = 0; j < 4; ++j) left[columns][j] = 0;
      if (block.lane < 16) block.column_sums(4 * block.group + block.m)[16 * columns + block.lane] = 0;
    } else {
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
        gate_tile(block, rows, pairs[2 * columns + tile], products[2 * pair + tile], 2 * columns + tile,
                  left[columns] + 2 * tile, square + 2 * tile, along_rows);
      }
    }
    squares.store(square, 16 * block.m, 2 * columns, block.lane);
  }
}

// rows += P' K̂ or −N' K̂, and where keys write also P'ᵀ Q̂ − N'ᵀ K̂.
template <int kWidth>
__device__ __forceinline__ void add_pairs(const GradientBlock<kWidth>& block, GradientSums<kWidth>& sums,
                                          float scale) {
  using L = GradientLayout<kWidth>;
  const auto own = block.own_rows();
  const RowGates rows(block, scale);
  std::uint32_t left[4][4];
  float along_rows[2] = {};
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    float products[4][4] = {};
    begin_products(products);
    multiply_steps<Lines::along_k, false, kWidth / 16>(
        PackedBf16{}, products, [&](int k) { return columns_along_k(own, k); },
        [&](int k, int n) { return columns_along_k(block.keys(), k, 32 * part + n); });
    commit_products();
    wait_for_products<0>(products);
    gate_pairs(block, rows, sums.pairs, products, part, left, along_rows);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) along_rows[half] = sum_row(along_rows[half]);
  put_row_sum(block, kPairs + block.group, along_rows);

  const auto add = [&](std::uint32_t(&x)[4][4], typename L::KeyTile tile) {
    begin_products(sums.rows, x);
    multiply_steps<Lines::along_n, true, kChunk / 16>(
        PackedBf16{}, sums.rows, [&](int k) -> const auto& { return x[k]; },
        [&](int k, int n) { return rows_along_k(tile, k, n / 32); });
    commit_products();
    wait_for_products<0>(sums.rows, x);
  };
  add(left, block.keys());
  __syncthreads();
  if (block.writes()) {
    for (const bool query : {true, false}) {
      const auto square = block.square(query ? L::kOutputs : L::kWrites);
#pragma unroll
      for (int k = 0; k < 4; ++k) square.left_transposed(left[k], 16 * k, 2 * block.m, block.lane);
      add(left, query ? block.queries() : block.keys());
    }
  }
}

// dlog_decay and dβ of the chunk, by one warp with two tokens to a lane.
template <int kWidth>
__device__ __forceinline__ void finish_gates(const GradientBlock<kWidth>& block, const Problem& p,
                                             const Gradients& out, const Chunk& chunk, int head) {
  float dsum[2], writer[2];
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const int row = 2 * block.lane + c;
    const float beta = block.scalars(kBeta)[row];
    const float reader = -missing_factor(beta) * block.row_sum(kStateRead, row);
    writer[c] = block.scalars(kKeyNorm)[row] * block.row_sums(kStateKey)[row] - reader;
    float column_sum = 0;
#pragma unroll
    for (int warp = 0; warp < kGradientThreads / 32; ++warp) column_sum += block.column_sums(warp)[row];
    dsum[c] = block.scalars(kQueryNorm)[row] * block.row_sums(kStateQuery)[row] + reader - writer[c] +
              (block.row_sum(kPairs, row) - column_sum);
    if (row < chunk.rows) {
      const float error = block.row_sum(kError, row);
      out.dbeta[(chunk.begin + row) * p.value_heads + head] = is_tiny(beta) ? error : error / beta;
    }
  }
  float states = 0;
#pragma unroll
  for (int warp = 0; warp < kGradientThreads / 32; ++warp) states += block.state_sums()[warp];
  const float last = warp_sum(writer[0] + writer[1]) + block.scalars(kGamma)[kChunk - 1] * states;
  if (block.lane == 31) dsum[1] += last;
  float sum = dsum[0] + dsum[1];
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const float after = __shfl_down_sync(0xffffffffU, sum, step);
    if (block.lane + step < 32) sum += after;
  }
  const float rest = __shfl_down_sync(0xffffffffU, sum, 1);
  const float second = (block.lane < 31 ? rest : 0.0F) + dsum[1];
  float* to = out.dlog_decay + (chunk.begin + 2 * block.lane) * p.value_heads + head;
  if (2 * block.lane < chunk.rows) to[0] = sum;
  if (2 * block.lane + 1 < chunk.rows) to[p.value_heads] = second;
}

// Through the normalisation: dx = r (dx̂ − x̂ (x̂·dx̂)). To dq or dk: f32 where several value heads share a key
// head, or else bf16 by way of shared memory, of which a warp has its own 16 rows.
template <int kWidth>
__device__ __forceinline__ void write_rows(const GradientBlock<kWidth>& block,
                                           const GradientSums<kWidth>& sums, const Problem& p,
                                           const Gradients& out, const Chunk& chunk, int head) {
  using L = GradientLayout<kWidth>;
  const auto own = block.own_rows();
  const int staging_offset = L::kStates + block.group * L::KeyTile::kBytes;
  const typename L::KeyTile staging{block.at(staging_offset)};
  const bool f32 = p.value_heads > p.key_heads;
  const std::int64_t first = (chunk.begin * p.value_heads + head) * p.key_width;
  const std::int64_t pitch = std::int64_t{p.value_heads} * p.key_width;
  void* const to = block.writes() ? out.dk : out.dq;
  float norm[2], along[2];
  dot_rows(along, block, own, sums.rows);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    norm[half] = block.own_norms()[block.row(half)];
    along[half] *= norm[half] * norm[half];
  }
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
    std::uint32_t x[4];
    own.left(x, 16 * block.m, 2 * k, block.lane);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int half = j % 2, row = block.row(half), column = 16 * k + j / 2 * 8 + 2 * (block.lane % 4);
      const float2 value = PackedBf16::unpack(x[j]);
      const float(&dx)[4] = sums.rows[2 * k + j / 2];
      const float2 pair = {norm[half] * (dx[2 * half] - value.x * along[half]),
                           norm[half] * (dx[2 * half + 1] - value.y * along[half])};
      x[j] = PackedBf16::pack(pair.x, pair.y);
      if (f32 && row < chunk.rows && column < p.key_width) {
        *reinterpret_cast<float2*>(static_cast<float*>(to) + first + row * pitch + column) = pair;
      }
    }
    if (!f32) staging.store(x, 16 * block.m, 2 * k, block.lane);
  }
  if (f32) return;
  __syncwarp();
#pragma unroll
  for (int round = 0; round < kWidth / 16; ++round) {
    const int i = 32 * round + block.lane;
    const int row = 16 * block.m + i / (kWidth / 8), packet = i % (kWidth / 8);
    if (row >= chunk.rows || packet * 8 >= p.key_width) continue;
    *reinterpret_cast<uint4*>(static_cast<bf16*>(to) + first + row * pitch + packet * 8) =
        *reinterpret_cast<const uint4*>(block.memory + staging_offset + L::KeyTile::offset(row, packet));
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kGradientThreads, GradientLayout<kWidth>::kBlocks)
    gradient_kernel(Problem p, Inputs in, Chunks chunks, GradientInputs from, Gradients out) {
  using L = GradientLayout<kWidth>;
  const std::int64_t unit = blockIdx.x;
  const int head = static_cast<int>(blockIdx.x % static_cast<unsigned>(p.value_heads));
  const Chunk chunk = chunk_in(p.segments, blockIdx.x / static_cast<unsigned>(p.value_heads));
  if (chunk.rows == 0) return;

  const GradientBlock<kWidth> block;
  const Rows keys = key_rows(p, chunk.begin, head), values = value_rows(p, chunk.begin, head);
  copy_columns(block.keys(), in.k + keys.first, keys.pitch, chunk.rows, 0, p.key_width, block.thread);
  copy_columns(block.queries(), in.q + keys.first, keys.pitch, chunk.rows, 0, p.key_width, block.thread);
  const auto* predicted = reinterpret_cast<const bf16*>(chunks.predicted) + unit * kChunk * kChunk;
  copy_columns(block.square(L::kPredicted), predicted, kChunk, kChunk, 0, kChunk, block.thread);
  for (int i = block.thread; i < kScalars * kChunk; i += kGradientThreads) {
    block.scalars(kKeyGain)[i] = chunks.scalars[unit * kScalars * kChunk + i];
  }

  GradientSums<kWidth> sums = {};
  add_slices(block, sums, GradientCall{p, in, from, out},
             {values.first, unit * p.key_width * p.value_width, values.pitch, chunk.rows});
  finish_sums(block, sums, p.scale);
  add_pairs(block, sums, p.scale);
  if (block.thread < 32) finish_gates(block, p, out, chunk, head);
  write_rows(block, sums, p, out, chunk, head);
}

}  // namespace braid::cuda::chunked
