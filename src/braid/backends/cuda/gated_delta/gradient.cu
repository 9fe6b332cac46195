// Per chunk and value head, from the states and their gradients at both ends and from dW: the gradients of q,
// k, log decay and β. With Δ = T Y the values truly added, E = V − prediction, so Δ = diag(β) E:
//   P' = scale tril(dO Δᵀ) ∘ Γ,  N' = stril(dW Δᵀ) ∘ Γ,  dβ = ⟨dY, E⟩
//   dQ̂ = scale diag(γ) dO Sᵀ + P' K̂
//   dK̂ = −diag(γ) dW Sᵀ − N' K̂ (as reader) + diag(ρ) Δ dSᵀ + P'ᵀ Q̂ − N'ᵀ K̂ (as writer)
//   Z = P' ∘ Q̂ K̂ᵀ − N' ∘ K̂ K̂ᵀ: one matrix for row and column sums, so that what cancels does so exactly
//   dG = q̂·dQ̂ + k̂·reader − k̂·writer (state parts) + row sums − column sums of Z; dlog_decay = Σ of dG from
//   there on
#include "braid/backends/cuda/gated_delta/gradient_slices.cuh"
#include "braid/backends/cuda/gated_delta/launch_kernel.cuh"

namespace braid::cuda::chunked {
namespace {

// Row sums of x times the rows that the tile at `offset` holds.
template <int kWidth>
__device__ __forceinline__ void put_dots(const GradientBlock<kWidth>& block, RowSum which, int offset,
                                         const float (&x)[kWidth / 16][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = 0;
#pragma unroll
    for (int tile = 0; tile < kWidth / 16; ++tile) {
      const float2 row = PackedBf16::unpack(
          block.template pair<kWidth>(offset, block.row(half), block.n * (kWidth / 16) + tile));
      sum = fmaf(row.x, x[tile][2 * half], fmaf(row.y, x[tile][2 * half + 1], sum));
    }
    block.put_row_sum(which, half, sum);
  }
}

// What the slices summed up: row sums, with the factors that were left out.
template <int kWidth>
__device__ __forceinline__ void finish_sums(const GradientBlock<kWidth>& block, GradientSums<kWidth>& sums,
                                            float scale) {
  using L = GradientLayout<kWidth>;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float gamma = block.scalars(kGamma)[block.row(half)];
#pragma unroll
    for (int tile = 0; tile < kWidth / 16; ++tile) {
      sums.q[tile][2 * half] *= scale * gamma;
      sums.q[tile][2 * half + 1] *= scale * gamma;
    }
    block.put_row_sum(kStateRead, half, sums.read[half]);
    block.put_row_sum(kError, half, sums.error[half]);
  }
  put_dots(block, kStateQuery, L::kQueries, sums.q);
  put_dots(block, kStateKey, L::kKeys, sums.k);
}

// Q Kᵀ and K Kᵀ in 16 columns, the pair-th of the warp's two; zero above the diagonal.
template <int kWidth>
__device__ __forceinline__ void multiply_keys(const GradientBlock<kWidth>& block, float (&qk)[2][4],
                                              float (&kk)[2][4], int pair) {
  using L = GradientLayout<kWidth>;
  const auto keys = block.template tile<kWidth>(L::kKeys), queries = block.template tile<kWidth>(L::kQueries);
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
    for (int c = 0; c < 4; ++c) qk[tile][c] = kk[tile][c] = 0;
  }
  if (2 * block.n + pair > block.m) return;
#pragma unroll 2
  for (int k = 0; k < kWidth / 16; ++k) {
    std::uint32_t a[4], b[4];
    keys.right_transposed(b, 16 * (2 * block.n + pair), 2 * k, block.lane);
    queries.left(a, 16 * block.m, 2 * k, block.lane);
    multiply_pair<PackedBf16>(qk[0], qk[1], a, b);
    keys.left(a, 16 * block.m, 2 * k, block.lane);
    multiply_pair<PackedBf16>(kk[0], kk[1], a, b);
  }
}

// Eight columns of dP and dN become four squares (64, 64) in the place of V, dO, dW and Δ: P' and −N' times
// r_k of the column, P' times r_q and −N' times r_k of the row. And the sums of Z.
template <int kWidth>
__device__ __forceinline__ void gate_tile(const GradientBlock<kWidth>& block, const float (&dp)[4],
                                          const float (&dn)[4], const float (&qk)[4], const float (&kk)[4],
                                          float scale, int packet, float (&along_row)[2]) {
  using L = GradientLayout<kWidth>;
  const int first = 8 * packet + 2 * (block.lane % 4);
  const float2 sum = shared_pair(block.scalars(kSum) + first),
               norm = shared_pair(block.scalars(kKeyNorm) + first);
  float down_column[2] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = block.row(half);
    const float sum_i = block.scalars(kSum)[i], query_norm = block.scalars(kQueryNorm)[i];
    const float key_norm = block.scalars(kKeyNorm)[i], missing = missing_factor(block.scalars(kBeta)[i]);
    float p[2], n[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int j = first + c, at = 2 * half + c;
      const float norm_j = c == 0 ? norm.x : norm.y;
      const float decay = __expf(i >= j ? fminf(sum_i - (c == 0 ? sum.x : sum.y), 0.0F) : 0.0F);
      p[c] = i >= j ? dp[at] * (scale * decay) : 0.0F;
      n[c] = i > j ? dn[at] * (-missing * decay) : 0.0F;
      const float z =
          norm_j * ((i >= j ? p[c] * qk[at] * query_norm : 0.0F) + (i > j ? n[c] * kk[at] * key_norm : 0.0F));
      along_row[half] += z;
      down_column[c] += z;
    }
    block.template pair<kChunk>(L::kValues, i, packet) = PackedBf16::pack(p[0] * norm.x, p[1] * norm.y);
    block.template pair<kChunk>(L::kOutputs, i, packet) = PackedBf16::pack(n[0] * norm.x, n[1] * norm.y);
    block.template pair<kChunk>(L::kWrites, i, packet) =
        PackedBf16::pack(p[0] * query_norm, p[1] * query_norm);
    block.template pair<kChunk>(L::kDeltas, i, packet) = PackedBf16::pack(n[0] * key_norm, n[1] * key_norm);
  }
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    float x = down_column[c];
#pragma unroll
    for (int step = 4; step < 32; step *= 2) x += __shfl_xor_sync(0xffffffffU, x, step);
    if (block.lane < 4) block.column_sums(block.m)[first + c] = x;
  }
}

template <int kWidth>
__device__ __forceinline__ void gate_pairs(const GradientBlock<kWidth>& block,
                                           const GradientSums<kWidth>& sums, float scale) {
  float along_row[2] = {};
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    float qk[2][4], kk[2][4];
    multiply_keys(block, qk, kk, pair);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int tile = 2 * pair + i;
      gate_tile(block, sums.p[tile], sums.n[tile], qk[i], kk[i], scale, 4 * block.n + tile, along_row);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) block.put_row_sum(kPairs, half, along_row[half]);
}

// q += P' K̂; k += −N' K̂ + P'ᵀ Q̂ − N'ᵀ K̂.
template <int kWidth>
__device__ __forceinline__ void add_pairs(const GradientBlock<kWidth>& block, GradientSums<kWidth>& sums) {
  using L = GradientLayout<kWidth>;
  const auto keys = block.template tile<kWidth>(L::kKeys), queries = block.template tile<kWidth>(L::kQueries);
#pragma unroll 1
  for (int k = 0; k < 4; ++k) {
    std::uint32_t p[4], n[4], p_transposed[4], n_transposed[4];
    const bool reads = k <= block.m, writes = k >= block.m;
    if (reads) {
      block.template tile<kChunk>(L::kValues).left(p, 16 * block.m, 2 * k, block.lane);
      block.template tile<kChunk>(L::kOutputs).left(n, 16 * block.m, 2 * k, block.lane);
    }
    if (writes) {
      block.template tile<kChunk>(L::kWrites).left_transposed(p_transposed, 16 * k, 2 * block.m, block.lane);
      block.template tile<kChunk>(L::kDeltas).left_transposed(n_transposed, 16 * k, 2 * block.m, block.lane);
    }
#pragma unroll
    for (int pair = 0; pair < kWidth / 32; ++pair) {
      const int packet = block.n * (kWidth / 16) + 2 * pair;
      std::uint32_t b[4];
      keys.right(b, 16 * k, packet, block.lane);
      if (reads) {
        multiply_pair<PackedBf16>(sums.q[2 * pair], sums.q[2 * pair + 1], p, b);
        multiply_pair<PackedBf16>(sums.k[2 * pair], sums.k[2 * pair + 1], n, b);
      }
      if (writes) {
        multiply_pair<PackedBf16>(sums.k[2 * pair], sums.k[2 * pair + 1], n_transposed, b);
        queries.right(b, 16 * k, packet, block.lane);
        multiply_pair<PackedBf16>(sums.k[2 * pair], sums.k[2 * pair + 1], p_transposed, b);
      }
    }
  }
}

// Through the normalisation: dx = r (dx̂ − x̂ (x̂·dx̂)). To f32 rows `out` at `pitch`; or, out null, in the place
// of x.
template <int kWidth>
__device__ __forceinline__ void finish_rows(const GradientBlock<kWidth>& block,
                                            const float (&dx)[kWidth / 16][4], int offset, Scalar norm_of,
                                            RowSum along_of, float* out, std::int64_t pitch, int rows,
                                            int width) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = block.row(half);
    const float norm = block.scalars(norm_of)[row];
    const float along = norm * norm * block.row_sum(along_of, row);
#pragma unroll
    for (int tile = 0; tile < kWidth / 16; ++tile) {
      const int packet = block.n * (kWidth / 16) + tile, column = 8 * packet + 2 * (block.lane % 4);
      std::uint32_t& at = block.template pair<kWidth>(offset, row, packet);
      const float2 x = PackedBf16::unpack(at);
      const float first = norm * (dx[tile][2 * half] - x.x * along);
      const float second = norm * (dx[tile][2 * half + 1] - x.y * along);
      if (out == nullptr) {
        at = PackedBf16::pack(first, second);
      } else if (row < rows && column < width) {
        *reinterpret_cast<float2*>(out + row * pitch + column) = {first, second};
      }
    }
  }
}

template <int kWidth>
__device__ __forceinline__ void store_tile(const GradientBlock<kWidth>& block, bf16* out, int offset,
                                           std::int64_t pitch, int rows, int width) {
  constexpr int kPackets = kWidth / 8;
  for (int i = block.thread; i < rows * kPackets; i += kGradientThreads) {
    const int row = i / kPackets, packet = i % kPackets;
    if (packet * 8 >= width) continue;
    *reinterpret_cast<uint4*>(out + row * pitch + packet * 8) =
        *reinterpret_cast<const uint4*>(block.memory + offset + Tile<kWidth>::offset(row, packet));
  }
}

// dlog_decay and dβ of the chunk, by one warp with two tokens to a lane.
template <int kWidth>
__device__ __forceinline__ void finish_gates(const GradientBlock<kWidth>& block, const Problem& p,
                                             const Gradients& out, const Chunk& chunk, int head,
                                             float states) {
  float dsum[2], writer[2];
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const int row = 2 * block.lane + c;
    const float beta = block.scalars(kBeta)[row];
    const float reader = -missing_factor(beta) * block.row_sum(kStateRead, row);
    writer[c] = block.scalars(kKeyNorm)[row] * block.row_sum(kStateKey, row) - reader;
    float column_sum = 0;
#pragma unroll
    for (int m = 0; m < 4; ++m) column_sum += block.column_sums(m)[row];
    dsum[c] = block.scalars(kQueryNorm)[row] * block.row_sum(kStateQuery, row) + reader - writer[c] +
              (block.row_sum(kPairs, row) - column_sum);
    if (row < chunk.rows) {
      const float error = block.row_sum(kError, row);
      out.dbeta[(chunk.begin + row) * p.value_heads + head] = is_tiny(beta) ? error : error / beta;
    }
  }
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

template <int kWidth>
__device__ __forceinline__ void write_gradients(const GradientBlock<kWidth>& block, const Problem& p,
                                                const Gradients& out, const GradientSums<kWidth>& sums,
                                                const Chunk& chunk, int head) {
  using L = GradientLayout<kWidth>;
  const bool summed_later = p.value_heads > p.key_heads;
  const std::int64_t heads = p.value_heads, at = (chunk.begin * heads + head) * p.key_width;
  const std::int64_t pitch = heads * p.key_width;
  float* dq = summed_later ? static_cast<float*>(out.dq) + at : nullptr;
  float* dk = summed_later ? static_cast<float*>(out.dk) + at : nullptr;
  finish_rows(block, sums.q, L::kQueries, kQueryNorm, kQueryAlong, dq, pitch, chunk.rows, p.key_width);
  finish_rows(block, sums.k, L::kKeys, kKeyNorm, kKeyAlong, dk, pitch, chunk.rows, p.key_width);
  if (summed_later) return;
  __syncthreads();
  store_tile(block, static_cast<bf16*>(out.dq) + at, L::kQueries, pitch, chunk.rows, p.key_width);
  store_tile(block, static_cast<bf16*>(out.dk) + at, L::kKeys, pitch, chunk.rows, p.key_width);
}

template <int kWidth>
__global__ void __launch_bounds__(kGradientThreads, kWidth <= 96 ? 2 : 1)
    gradient_kernel(Problem p, Inputs in, Chunks chunks, GradientInputs from, Gradients out) {
  using L = GradientLayout<kWidth>;
  const std::int64_t unit = blockIdx.x;
  const int head = static_cast<int>(unit % p.value_heads);
  const Chunk chunk = chunk_in(p.segments, unit / p.value_heads);
  if (chunk.rows == 0) return;

  const GradientBlock<kWidth> block(shared_memory);
  const Rows keys = key_rows(p, chunk.begin, head), values = value_rows(p, chunk.begin, head);
  const std::int64_t state = unit * p.key_width * p.value_width;
  const GradientRows rows{.values = in.v + values.first,
                          .outputs = from.dy + values.first,
                          .states = from.states + state,
                          .state_gradients = from.dstates + state,
                          .writes = out.dv + values.first,
                          .pitch = values.pitch,
                          .rows = chunk.rows};
  constexpr int n = kGradientThreads;
  copy_tile_async<kChunk, n>(block.template tile<kWidth>(L::kKeys), in.k + keys.first, keys.pitch, chunk.rows,
                             p.key_width, block.thread);
  copy_tile_async<kChunk, n>(block.template tile<kWidth>(L::kQueries), in.q + keys.first, keys.pitch,
                             chunk.rows, p.key_width, block.thread);
  copy_tile_async<kChunk, n>(block.template tile<kChunk>(L::kPredicted),
                             chunks.predicted + unit * kChunk * kChunk, kChunk, kChunk, kChunk, block.thread);
  for (int i = block.thread; i < kScalars * kChunk; i += n) {
    block.scalars(kKeyGain)[i] = chunks.scalars[unit * kScalars * kChunk + i];
  }

  GradientSums<kWidth> sums = {};
  for (int column = 0; column < p.value_width; column += kSlice) {
    copy_slice(block, p, rows, column);
    wait_for_copies<0>();
    __syncthreads();
    float w[4][4];
    recompute_written(block, w, sums);
    __syncthreads();
    recompute_deltas(block, w, sums);
    __syncthreads();
    add_slice(block, sums);
    finish_slice(block, sums, rows, column, p.value_width);
    __syncthreads();
  }
  finish_sums(block, sums, p.scale);
  gate_pairs(block, sums, p.scale);
  __syncthreads();
  add_pairs(block, sums);
  put_dots(block, kQueryAlong, L::kQueries, sums.q);
  put_dots(block, kKeyAlong, L::kKeys, sums.k);
  const float states = block_sum<n>(sums.states, reinterpret_cast<float*>(block.memory + L::kReduction));
  if (block.thread < 32) finish_gates(block, p, out, chunk, head, states);
  write_gradients(block, p, out, sums, chunk, head);
}

constexpr int kSumThreads = 256;

__global__ void __launch_bounds__(kSumThreads)
    sum_groups_kernel(bf16* sum, const float* parts, std::int64_t count, int group, int width) {
  for (std::int64_t i = std::int64_t{blockIdx.x} * kSumThreads + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * kSumThreads) {
    const std::int64_t row = i / width, column = i % width;
    float total = 0;
    for (int part = 0; part < group; ++part) total += parts[(row * group + part) * width + column];
    sum[i] = from_float<bf16>(total);
  }
}

}  // namespace

void gradient(Context& ctx, const Problem& p, const Inputs& in, const Chunks& chunks,
              const GradientInputs& from, const Gradients& out) {
  const auto units = static_cast<unsigned>(p.slots * p.value_heads);
  if (units == 0) return;
  visit_padded_width(p.key_width, [&]<int kWidth>() {
    launch_kernel(ctx, gradient_kernel<kWidth>, units, kGradientThreads, GradientLayout<kWidth>::kBytes, p,
                  in, chunks, from, out);
  });
}

void sum_groups(Context& ctx, bf16* sum, const float* parts, std::int64_t rows, int group, int width) {
  const std::int64_t count = rows * width;
  if (count == 0) return;
  launch_kernel(ctx, sum_groups_kernel, grid_for(ctx, count, kSumThreads), kSumThreads, 0, sum, parts, count,
                group, width);
}

}  // namespace braid::cuda::chunked
