// Per chunk and value head, whatever needs no state: scalars of the tokens, R, X and M of chunked.h.
#include "braid/backends/cuda/gated_delta/launch_kernel.cuh"
#include "braid/backends/cuda/gated_delta/triangular_inverse.cuh"

namespace braid::cuda::chunked {
namespace {

constexpr int kThreads = 128;        // warp w owns rows 16 w to 16 w + 15 of every 64-row matrix
constexpr float kLargestRatio = 64;  // M = (1 − T) / β is used for |β| from 1 / kLargestRatio on

template <int kWidth>
struct Layout {
  static constexpr int kStagingWidth = kWidth < 64 ? 64 : kWidth;
  static constexpr int kKeys = 0;
  static constexpr int kQueries = kKeys + kChunk * kWidth * 2;  // later each warp's 16 rows of results
  static constexpr int kInverse = kQueries + kChunk * kStagingWidth * 2;
  static constexpr int kInverse16 = kInverse + kChunk * kInversePitch * 4;
  static constexpr int kScalarRows = kInverse16 + kChunk * kChunk * 2;
  static constexpr int kBytes = kScalarRows + kScalars * kChunk * 4;
};

// One row's 1 / |x|.
template <int kWidth>
__device__ float inverse_norm(const unsigned char* tile, int row) {
  float sum = 0;
#pragma unroll 4
  for (int packet = 0; packet < kWidth / 8; ++packet) {
    const uint4 x = *reinterpret_cast<const uint4*>(tile + Tile<kWidth>::offset(row, packet));
    for (const std::uint32_t pair : {x.x, x.y, x.z, x.w}) {
      const float2 values = PackedBf16::unpack(pair);
      sum = fmaf(values.x, values.x, fmaf(values.y, values.y, sum));
    }
  }
  return rsqrtf(sum + static_cast<float>(ops::kDeltaNormEpsilon));
}

// G and β of the chunk, by one warp with two tokens to a lane.
__device__ void sum_log_decay(float* scalars, const Problem& p, const Inputs& in, const Chunk& chunk,
                              int head, int lane) {
  float g[2], beta[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = 2 * lane + i;
    const std::int64_t at = (chunk.begin + row) * p.value_heads + head;
    g[i] = row < chunk.rows ? in.log_decay[at] : 0.0F;
    beta[i] = row < chunk.rows ? in.beta[at] : 0.0F;
  }
  float sum = g[0] + g[1];
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const float before = __shfl_up_sync(0xffffffffU, sum, step);
    if (lane >= step) sum += before;
  }
  const float before = __shfl_up_sync(0xffffffffU, sum, 1);
  float* row = scalars + 2 * lane;
  row[kSum * kChunk] = (lane == 0 ? 0.0F : before) + g[0];
  row[kSum * kChunk + 1] = sum;
  row[kBeta * kChunk] = beta[0];
  row[kBeta * kChunk + 1] = beta[1];
}

__device__ void finish_scalars(float* scalars, int row, int rows) {
  const auto scalar = [&](Scalar which) -> float& { return scalars[which * kChunk + row]; };
  const float sum = scalar(kSum), gamma = decay(sum);
  const bool inside = row < rows;
  const float query_norm = inside ? scalar(kQueryNorm) : 0.0F, key_norm = inside ? scalar(kKeyNorm) : 0.0F;
  scalar(kQueryNorm) = query_norm;
  scalar(kKeyNorm) = key_norm;
  scalar(kGamma) = gamma;
  scalar(kRho) = decay(scalars[kSum * kChunk + kChunk - 1] - sum);
  scalar(kKeyGain) = inside ? gamma * key_norm : 0.0F;
  scalar(kQueryGain) = inside ? gamma * query_norm : 0.0F;
}

// The accumulators of K Kᵀ and Q Kᵀ become A and P, packed as left operands; diag(β) A also goes to
// `inverse`.
struct Products {
  float keys[8][4], queries[8][4];
};
struct Triangles {
  std::uint32_t a[4][4], p[4][4];
};
__device__ __forceinline__ void gate(Triangles& out, Products& x, float* inverse, const float* scalars,
                                     int warp, int lane) {
  const float *norm = scalars + kKeyNorm * kChunk, *sum = scalars + kSum * kChunk;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = 16 * warp + lane / 4 + 8 * half;
    const float key_norm = norm[i], query_norm = scalars[kQueryNorm * kChunk + i], sum_i = sum[i];
    const float beta = scalars[kBeta * kChunk + i];
#pragma unroll
    for (int tile = 0; tile < 8; ++tile) {
      if (tile / 2 > warp) break;  // above the diagonal: zero already
      float l[2];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int j = 8 * tile + 2 * (lane % 4) + c;
        const float factor = decay(i >= j ? sum_i - sum[j] : 0.0F) * norm[j];
        float &kk = x.keys[tile][2 * half + c], &qk = x.queries[tile][2 * half + c];
        kk = i > j ? kk * (key_norm * factor) : 0.0F;
        qk = i >= j ? qk * (query_norm * factor) : 0.0F;
        l[c] = beta * kk;
      }
      *reinterpret_cast<float2*>(inverse + i * kInversePitch + 8 * tile + 2 * (lane % 4)) = {l[0], l[1]};
    }
  }
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    pack_pair<PackedHalf>(out.a[pair], x.keys[2 * pair], x.keys[2 * pair + 1]);
    pack_pair<PackedHalf>(out.p[pair], x.queries[2 * pair], x.queries[2 * pair + 1]);
  }
}

// A warp's 16 rows of a result, from accumulators to 16-byte stores.
template <class Packed, int kWidth>
__device__ __forceinline__ void store_rows(void* out, Tile<kWidth> staging, unsigned char* staging_bytes,
                                           const float (&x)[kWidth / 8][4], int lane) {
#pragma unroll
  for (int pair = 0; pair < kWidth / 16; ++pair) {
    std::uint32_t packed[4];
    pack_pair<Packed>(packed, x[2 * pair], x[2 * pair + 1]);
    store_matrices(staging.rows_first(0, 2 * pair, lane), packed);
  }
  __syncwarp();
#pragma unroll
  for (int i = lane; i < 2 * kWidth; i += 32) {
    const int row = i / (kWidth / 8), packet = i % (kWidth / 8);
    static_cast<uint4*>(out)[i] =
        *reinterpret_cast<const uint4*>(staging_bytes + Tile<kWidth>::offset(row, packet));
  }
  __syncwarp();
}

// (16 rows of) `left` times the lower triangular matrix (64, 64) in `right`; both f16.
__device__ __forceinline__ void multiply_triangular(float (&x)[8][4], const std::uint32_t (&left)[4][4],
                                                    Tile<64> right, int warp, int lane) {
#pragma unroll
  for (int tile = 0; tile < 8; ++tile) {
#pragma unroll
    for (int c = 0; c < 4; ++c) x[tile][c] = 0;
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (k > warp) break;
#pragma unroll
    for (int pair = 0; pair <= k; ++pair) {
      std::uint32_t b[4];
      right.right(b, 16 * k, 2 * pair, lane);
      multiply_pair<PackedHalf>(x[2 * pair], x[2 * pair + 1], left[k], b);
    }
  }
}

// M from T where β allows it, since that is T's own f32; x holds A T from f16 operands.
__device__ __forceinline__ void refine_predicted(float (&x)[8][4], const float* inverse, const float* scalars,
                                                 int warp, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = 16 * warp + lane / 4 + 8 * half;
    const float beta = scalars[kBeta * kChunk + i];
    if (fabsf(beta) * kLargestRatio < 1.0F) continue;
    const float factor = -1.0F / beta;
#pragma unroll
    for (int tile = 0; tile < 8; ++tile) {
      const int j = 8 * tile + 2 * (lane % 4);
      const float2 t = shared_pair(inverse + i * kInversePitch + j);
      x[tile][2 * half] = i > j ? t.x * factor : 0.0F;
      x[tile][2 * half + 1] = i > j + 1 ? t.y * factor : 0.0F;
    }
  }
}

// T from the block columns of the warps, on and below the blocks on the diagonal.
__device__ __forceinline__ void store_inverse(const Block (&blocks)[4], Tile<64> to, int warp, int lane) {
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    if (warp + r >= 4) break;
    std::uint32_t packed[4];
    pack_pair<PackedHalf>(packed, blocks[r][0], blocks[r][1]);
    store_matrices_transposed(to.columns_first(16 * (warp + r), 2 * warp, lane), packed);
  }
}
__device__ __forceinline__ void store_inverse(const Block (&blocks)[4], float* to, int warp, int lane) {
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    if (warp + r >= 4) break;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int row = 16 * (warp + r) + 8 * n + 2 * (lane % 4) + c % 2;
        to[row * kInversePitch + 16 * warp + lane / 4 + c / 2 * 8] = blocks[r][n][c];
      }
    }
  }
}

// Blocks that share a multiprocessor hide each other's latencies; wide keys need their registers.
constexpr int blocks_at_once(int width) { return width <= 64 ? 5 : width <= 128 ? 4 : 1; }

template <int kWidth, class Packed, bool kBackward>
__global__ void __launch_bounds__(kThreads, blocks_at_once(kWidth))
    prepare_kernel(Problem p, Inputs in, Chunks out) {
  using L = Layout<kWidth>;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const std::int64_t unit = blockIdx.x;
  const int head = static_cast<int>(blockIdx.x % static_cast<unsigned>(p.value_heads));
  const Chunk chunk = chunk_in(p.segments, blockIdx.x / static_cast<unsigned>(p.value_heads));
  if (chunk.rows == 0) return;

  unsigned char* memory = dynamic_shared();
  const Tile<kWidth> keys{shared_address(memory + L::kKeys)}, queries{shared_address(memory + L::kQueries)};
  const Tile<64> inverse16{shared_address(memory + L::kInverse16)};
  float* inverse = reinterpret_cast<float*>(memory + L::kInverse);
  float* scalars = reinterpret_cast<float*>(memory + L::kScalarRows);
  {
    const Rows rows = key_rows(p, chunk.begin, head);
    copy_tile_async<kChunk, kThreads>(keys, in.k + rows.first, rows.pitch, chunk.rows, p.key_width, thread);
    copy_tile_async<kChunk, kThreads>(queries, in.q + rows.first, rows.pitch, chunk.rows, p.key_width,
                                      thread);
    commit_copies();
  }
  if (warp == 0) sum_log_decay(scalars, p, in, chunk, head, lane);
  wait_for_copies<0>();
  __syncthreads();

  const bool is_key = thread < kChunk;
  const int row = thread % kChunk;
  scalars[(is_key ? kKeyNorm : kQueryNorm) * kChunk + row] =
      inverse_norm<kWidth>(memory + (is_key ? L::kKeys : L::kQueries), row);
  Products products{};
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
    std::uint32_t key[4], query[4];
    keys.left(key, 16 * warp, 2 * k, lane);
    queries.left(query, 16 * warp, 2 * k, lane);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      if (pair > warp) break;
      std::uint32_t b[4];
      keys.right_transposed(b, 16 * pair, 2 * k, lane);
      multiply_pair<PackedBf16>(products.keys[2 * pair], products.keys[2 * pair + 1], key, b);
      multiply_pair<PackedBf16>(products.queries[2 * pair], products.queries[2 * pair + 1], query, b);
    }
  }
  __syncthreads();
  if (thread < kChunk) finish_scalars(scalars, thread, chunk.rows);
  __syncthreads();
  for (int i = thread; i < kScalars * kChunk; i += kThreads)
    out.scalars[unit * kScalars * kChunk + i] = scalars[i];

  Triangles triangles;
  gate(triangles, products, inverse, scalars, warp, lane);
  __syncthreads();
  Block blocks[4];
  invert_triangular(blocks, inverse, warp, lane);
  store_inverse(blocks, inverse16, warp, lane);

  // K to ρ K̂ in f16.
#pragma unroll 2
  for (int i = thread; i < kChunk * kWidth / 8; i += kThreads) {
    const int at_row = i / (kWidth / 8), packet = i % (kWidth / 8);
    uint4& x = *reinterpret_cast<uint4*>(memory + L::kKeys + Tile<kWidth>::offset(at_row, packet));
    const float norm = scalars[kKeyNorm * kChunk + at_row], rho = scalars[kRho * kChunk + at_row];
    for (std::uint32_t* pair : {&x.x, &x.y, &x.z, &x.w}) {
      const float2 values = PackedBf16::unpack(*pair);
      *pair = PackedHalf::pack(values.x * norm * rho, values.y * norm * rho);
    }
  }
  __syncthreads();
  if constexpr (kBackward) {
    store_inverse(blocks, inverse, warp, lane);
    __syncthreads();
  }

  unsigned char* staging = memory + L::kQueries + warp * 16 * L::kStagingWidth * 2;
  const Tile<64> squares{shared_address(staging)};
  const std::int64_t square_row = (unit * kChunk + 16 * warp) * kChunk;
  {
    float x[8][4];
    multiply_triangular(x, triangles.p, inverse16, warp, lane);
    store_rows<Packed>(static_cast<bf16*>(out.response) + square_row, squares, staging, x, lane);
    if constexpr (kBackward) {
      multiply_triangular(x, triangles.a, inverse16, warp, lane);
      refine_predicted(x, inverse, scalars, warp, lane);
      store_rows<PackedHalf>(out.predicted + square_row, squares, staging, x, lane);
    }
  }
  float x[kWidth / 8][4] = {};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (k < warp) continue;
    std::uint32_t a[4];
    inverse16.left_transposed(a, 16 * k, 2 * warp, lane);
#pragma unroll
    for (int pair = 0; pair < kWidth / 16; ++pair) {
      std::uint32_t b[4];
      keys.right(b, 16 * k, 2 * pair, lane);
      multiply_pair<PackedHalf>(x[2 * pair], x[2 * pair + 1], a, b);
    }
  }
  store_rows<Packed>(static_cast<bf16*>(out.written) + (unit * kChunk + 16 * warp) * kWidth,
                     Tile<kWidth>{shared_address(staging)}, staging, x, lane);
}

}  // namespace

void prepare(Context& ctx, const Problem& p, const Inputs& in, const Chunks& out) {
  const auto units = static_cast<unsigned>(p.slots * p.value_heads);
  if (units == 0) return;
  visit_padded_width(p.key_width, [&]<int kWidth>() {
    constexpr int kBytes = Layout<kWidth>::kBytes;
    if (out.predicted == nullptr) {
      launch_kernel(ctx, prepare_kernel<kWidth, PackedHalf, false>, units, kThreads, kBytes, p, in, out);
    } else {
      launch_kernel(ctx, prepare_kernel<kWidth, PackedBf16, true>, units, kThreads, kBytes, p, in, out);
    }
  });
}

}  // namespace braid::cuda::chunked
