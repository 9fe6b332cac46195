// The sequential part of backward, from the last chunk to the first, with dS the gradient of the state after
// a chunk:
//   dY = scale Rᵀ dO + X dS,  dV = dW = diag(β) dY,  dS ← γ_last dS + scale (diag(γ) Q̂)ᵀ dO − (diag(γ) K̂)ᵀ dW
#include "braid/backends/cuda/gated_delta/launch_kernel.cuh"
#include "braid/backends/cuda/gated_delta/scan.cuh"
#include "braid/backends/cuda/gated_delta/scan_group.h"
#include "braid/backends/cuda/gated_delta/written_gradients.cuh"

namespace braid::cuda::chunked {
namespace {

// dy = scale Rᵀ dO + X dS, transposed.
template <int kWidth>
__device__ __forceinline__ void written_gradient(Tokens& dy, const TokenOperands& dout,
                                                 const float (&ds)[kWidth / 8][4], Tile<kChunk> response,
                                                 Tile<kWidth> written, float scale, int lane) {
#pragma unroll
  for (int tile = 0; tile < 8; ++tile) {
#pragma unroll
    for (int c = 0; c < 4; ++c) dy[tile][c] = 0;
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) {
#pragma unroll
    for (int pair = 0; pair <= k; ++pair) {
      std::uint32_t b[4];
      response.right(b, 16 * k, 2 * pair, lane);
      multiply_pair<PackedBf16>(dy[2 * pair], dy[2 * pair + 1], dout[k], b);
    }
  }
#pragma unroll
  for (int tile = 0; tile < 8; ++tile) {
#pragma unroll
    for (int c = 0; c < 4; ++c) dy[tile][c] *= scale;
  }
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
    std::uint32_t a[4];
    pack_pair<PackedBf16>(a, ds[2 * k], ds[2 * k + 1]);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      std::uint32_t b[4];
      written.right_transposed(b, 16 * pair, 2 * k, lane);
      multiply_pair<PackedBf16>(dy[2 * pair], dy[2 * pair + 1], a, b);
    }
  }
}

// ds += left times rows (64, kWidth), transposed.
template <int kWidth>
__device__ __forceinline__ void add_outer(float (&ds)[kWidth / 8][4], const TokenOperands& left,
                                          Tile<kWidth> rows, int lane) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
#pragma unroll
    for (int pair = 0; pair < kWidth / 16; ++pair) {
      std::uint32_t b[4];
      rows.right(b, 16 * k, 2 * pair, lane);
      multiply_pair<PackedBf16>(ds[2 * pair], ds[2 * pair + 1], left[k], b);
    }
  }
}

template <int kWidth>
__device__ __forceinline__ void consume(unsigned char* memory, const Problem& p, const ScanBlock& block,
                                        bf16* dv, const BackwardStates& states, int warp, int lane) {
  using L = Stage<kWidth>;
  const std::int64_t column = block.column + 16 * warp,
                     state_size = std::int64_t{p.key_width} * p.value_width;
  if (column >= p.value_width) {
    for (int i = 0; i < block.chunks; ++i) block_barrier<kScanThreads>();
    return;
  }
  float ds[kWidth / 8][4];
  const float* dfinal = states.dfinal;
  load_state(ds, dfinal == nullptr ? nullptr : dfinal + block.state * state_size + column, p.value_width,
             p.key_width, lane);
  // After chunk c, through 16 columns of a stage that no copy is on its way to.
  const auto checkpoint = [&](int c, int stage) {
    if (c < 0) return;
    store_columns(states.dstates + block.unit(p, c) * state_size + column, p.value_width, p.key_width, ds,
                  1.0F, memory + stage * L::kBytes + L::kValues, 2 * warp, lane);
  };
  checkpoint(block.chunks - 1, L::kCount - 1);
  for (int i = 0; i < block.chunks; ++i) {
    block_barrier<kScanThreads>();
    const int c = block.chunks - 1 - i;
    unsigned char* stage = memory + i % L::kCount * L::kBytes;
    const SharedAddress base = shared_address(stage);
    const auto* scalars = reinterpret_cast<const float*>(stage + L::kScalarRows);
    Tokens dy;
    TokenOperands dout, dw;
    const Tile<kSlice> outputs{base + L::kValues};
#pragma unroll
    for (int k = 0; k < 4; ++k) outputs.left_transposed(dout[k], 16 * k, 2 * warp, lane);
    written_gradient<kWidth>(dy, dout, ds, {base + L::kResponse}, {base + L::kWritten}, p.scale, lane);
    scale_written(dw, dy, scalars, lane);
    scale_outputs(dout, scalars, p.scale, lane);
    const float gamma = scalars[kGamma * kChunk + kChunk - 1];
#pragma unroll
    for (int tile = 0; tile < kWidth / 8; ++tile) {
#pragma unroll
      for (int j = 0; j < 4; ++j) ds[tile][j] *= gamma;
    }
    add_outer<kWidth>(ds, dout, {base + L::kQueries}, lane);
    add_outer<kWidth>(ds, dw, {base + L::kKeys}, lane);
    const Rows rows = value_rows(p, block.begin + std::int64_t{c} * kChunk, block.head);
    store_columns(dv + rows.first + column, rows.pitch, block.rows(c), dy, 1.0F, stage + L::kValues, 2 * warp,
                  lane);
    checkpoint(c - 1, i % L::kCount);
  }
  if (states.dinitial != nullptr) {
    store_state(states.dinitial + block.state * state_size + column, ds, p.value_width, p.key_width, lane);
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kScanThreads, 1)
    scan_backward_kernel(Problem p, Inputs in, Chunks chunks, const bf16* dy, bf16* dv,
                         BackwardStates states) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const ScanBlock block(p);
  if (warp < kConsumers) {
    consume<kWidth>(dynamic_shared(), p, block, dv, states, warp, thread % 32);
  } else {
    produce<kWidth>(shared_address(dynamic_shared()), p, block, in, dy, chunks, thread - kProducerThreads,
                    [&](int i) { return block.chunks - 1 - i; });
  }
}

}  // namespace

void scan_backward(Context& ctx, const Problem& p, const Inputs& in, const Chunks& chunks, const bf16* dy,
                   bf16* dv, const BackwardStates& states) {
  if (scan_blocks(p) == 0) return;
  if (choose_scan(p) == ScanPath::warpgroup) return scan_backward_group(ctx, p, in, chunks, dy, dv, states);
  visit_padded_width(p.key_width, [&]<int kWidth>() {
    launch_kernel(ctx, scan_backward_kernel<kWidth>, scan_blocks(p), kScanThreads,
                  Stage<kWidth>::kCount * Stage<kWidth>::kBytes, p, in, chunks, dy, dv, states);
  });
}

}  // namespace braid::cuda::chunked
