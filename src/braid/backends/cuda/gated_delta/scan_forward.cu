// The sequential part of forward: y, the states before the chunks, and the final states.
#include "braid/backends/cuda/gated_delta/launch_kernel.cuh"
#include "braid/backends/cuda/gated_delta/scan.cuh"
#include "braid/backends/cuda/gated_delta/scan_group.h"
#include "braid/backends/cuda/gated_delta/written_values.cuh"

namespace braid::cuda::chunked {
namespace {

// u = Sᵀ Kᵀ and o = Sᵀ Qᵀ, with S rounded to bf16.
template <int kWidth>
__device__ __forceinline__ void read_state(Tokens& u, Tokens& o, const float (&s)[kWidth / 8][4],
                                           Tile<kWidth> keys, Tile<kWidth> queries, int lane) {
#pragma unroll
  for (int tile = 0; tile < 8; ++tile) {
#pragma unroll
    for (int c = 0; c < 4; ++c) u[tile][c] = o[tile][c] = 0;
  }
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
    std::uint32_t a[4];
    pack_pair<PackedBf16>(a, s[2 * k], s[2 * k + 1]);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      std::uint32_t b[4];
      keys.right_transposed(b, 16 * pair, 2 * k, lane);
      multiply_pair<PackedBf16>(u[2 * pair], u[2 * pair + 1], a, b);
      queries.right_transposed(b, 16 * pair, 2 * k, lane);
      multiply_pair<PackedBf16>(o[2 * pair], o[2 * pair + 1], a, b);
    }
  }
}

// S ← γ S + Xᵀ Y
template <int kWidth>
__device__ __forceinline__ void advance(float (&s)[kWidth / 8][4], const std::uint32_t (&y)[4][4],
                                        Tile<kWidth> written, float gamma, int lane) {
#pragma unroll
  for (int tile = 0; tile < kWidth / 8; ++tile) {
#pragma unroll
    for (int c = 0; c < 4; ++c) s[tile][c] *= gamma;
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) {
#pragma unroll
    for (int pair = 0; pair < kWidth / 16; ++pair) {
      std::uint32_t b[4];
      written.right(b, 16 * k, 2 * pair, lane);
      multiply_pair<PackedHalf>(s[2 * pair], s[2 * pair + 1], y[k], b);
    }
  }
}

// O ← diag(gain) O + R Y
__device__ __forceinline__ void respond(Tokens& o, const std::uint32_t (&y)[4][4], Tile<kChunk> response,
                                        const float* scalars, int lane) {
  scale_tokens(o, scalars + kQueryGain * kChunk, lane);
#pragma unroll
  for (int k = 0; k < 4; ++k) {
#pragma unroll
    for (int pair = k; pair < 4; ++pair) {
      std::uint32_t b[4];
      response.right_transposed(b, 16 * pair, 2 * k, lane);
      multiply_pair<PackedHalf>(o[2 * pair], o[2 * pair + 1], y[k], b);
    }
  }
}

template <int kWidth>
__device__ __forceinline__ void consume(unsigned char* memory, const Problem& p, const ScanBlock& block,
                                        bf16* y, const ForwardStates& states, unsigned long long* saturated,
                                        int warp, int lane) {
  using L = Stage<kWidth>;
  const std::int64_t column = block.column + 16 * warp,
                     state_size = std::int64_t{p.key_width} * p.value_width;
  if (column >= p.value_width) {
    for (int c = 0; c < block.chunks; ++c) block_barrier<kScanThreads>();
    return;
  }
  float s[kWidth / 8][4];
  const float* initial = states.initial;
  load_state(s, initial == nullptr ? nullptr : initial + block.state * state_size + column, p.value_width,
             p.key_width, lane);
  // Before chunk c, through 16 columns of a stage that no copy is on its way to.
  const auto checkpoint = [&](int c, int stage) {
    if (states.checkpoints == nullptr || c >= block.chunks) return;
    store_columns(states.checkpoints + block.unit(p, c) * state_size + column, p.value_width, p.key_width, s,
                  1.0F, memory + stage * L::kBytes + L::kValues, 2 * warp, lane);
  };
  checkpoint(0, L::kCount - 1);
  for (int c = 0; c < block.chunks; ++c) {
    block_barrier<kScanThreads>();
    unsigned char* stage = memory + c % L::kCount * L::kBytes;
    const SharedAddress base = shared_address(stage);
    const auto* scalars = reinterpret_cast<const float*>(stage + L::kScalarRows);
    Tokens u, o;
    std::uint32_t written[4][4];
    read_state<kWidth>(u, o, s, {base + L::kKeys}, {base + L::kQueries}, lane);
    float largest;
    write_values(written, u, {base + L::kValues}, scalars, 2 * warp, lane, largest);
    count_saturated(u, largest, saturated);
    advance<kWidth>(s, written, {base + L::kWritten}, scalars[kGamma * kChunk + kChunk - 1], lane);
    respond(o, written, {base + L::kResponse}, scalars, lane);
    const Rows rows = value_rows(p, block.begin + std::int64_t{c} * kChunk, block.head);
    store_columns(y + rows.first + column, rows.pitch, block.rows(c), o, p.scale, stage + L::kValues,
                  2 * warp, lane);
    checkpoint(c + 1, c % L::kCount);
  }
  if (states.final != nullptr) {
    store_state(states.final + block.state * state_size + column, s, p.value_width, p.key_width, lane);
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kScanThreads, 1)
    scan_forward_kernel(Problem p, Inputs in, Chunks chunks, bf16* y, ForwardStates states,
                        unsigned long long* saturated) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const ScanBlock block(p);
  if (warp < kConsumers) {
    consume<kWidth>(dynamic_shared(), p, block, y, states, saturated, warp, thread % 32);
  } else {
    produce<kWidth>(shared_address(dynamic_shared()), p, block, in, in.v, chunks, thread - kProducerThreads,
                    [](int i) { return i; });
  }
}

}  // namespace

void scan_forward(Context& ctx, const Problem& p, const Inputs& in, const Chunks& chunks, bf16* y,
                  const ForwardStates& states, unsigned long long* saturated) {
  if (scan_blocks(p) == 0) return;
  if (choose_scan(p) == ScanPath::warpgroup) {
    return scan_forward_group(ctx, p, in, chunks, y, states, saturated);
  }
  visit_padded_width(p.key_width, [&]<int kWidth>() {
    launch_kernel(ctx, scan_forward_kernel<kWidth>, scan_blocks(p), kScanThreads,
                  Stage<kWidth>::kCount * Stage<kWidth>::kBytes, p, in, chunks, y, states, saturated);
  });
}

}  // namespace braid::cuda::chunked
