// The gradient kernel's pass over the value width, 64 columns at a time.
#pragma once
#include "braid/backends/cuda/gated_delta/gradient_block.cuh"

namespace braid::cuda::chunked {

// Tensors of one (chunk, head), first rows.
struct GradientRows {
  const bf16 *values, *outputs;          // V, dO
  const bf16 *states, *state_gradients;  // (Dk, Dv)
  bf16* writes;                          // dW, as scan_backward leaves it
  std::int64_t pitch;                    // of values, outputs and writes
  int rows;
};

template <int kWidth>
__device__ __forceinline__ void copy_slice(const GradientBlock<kWidth>& block, const Problem& p,
                                           const GradientRows& from, int column) {
  using L = GradientLayout<kWidth>;
  constexpr int n = kGradientThreads;
  const int width = p.value_width - column, thread = block.thread;
  const auto rows_at = [&](int offset, const bf16* x) {
    copy_tile_async<kChunk, n>(block.template tile<kSlice>(offset), x + column, from.pitch, from.rows, width,
                               thread);
  };
  const auto state_at = [&](int offset, const bf16* x) {
    copy_tile_async<kWidth, n>(block.template tile<kSlice>(offset), x + column, p.value_width, p.key_width,
                               width, thread);
  };
  state_at(L::kStates, from.states);
  rows_at(L::kValues, from.values);
  rows_at(L::kWrites, from.writes);
  rows_at(L::kOutputs, from.outputs);
  state_at(L::kStateGradients, from.state_gradients);
  commit_copies();
}

// w = V − diag(γ) K̂ S; Y = diag(β) w takes the place of V.
template <int kWidth>
__device__ __forceinline__ void recompute_written(const GradientBlock<kWidth>& block, float (&w)[4][4],
                                                  GradientSums<kWidth>& sums) {
  using L = GradientLayout<kWidth>;
  const auto keys = block.template tile<kWidth>(L::kKeys);
  const auto states = block.template tile<kSlice>(L::kStates);
#pragma unroll
  for (int tile = 0; tile < 4; ++tile) {
#pragma unroll
    for (int c = 0; c < 4; ++c) w[tile][c] = 0;
  }
#pragma unroll 2
  for (int k = 0; k < kWidth / 16; ++k) {
    std::uint32_t a[4], b[4];
    keys.left(a, 16 * block.m, 2 * k, block.lane);
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      states.right(b, 16 * k, 4 * block.n + 2 * pair, block.lane);
      multiply_pair<PackedBf16>(w[2 * pair], w[2 * pair + 1], a, b);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = block.row(half);
    const float gain = block.scalars(kKeyGain)[row], beta = block.scalars(kBeta)[row];
#pragma unroll
    for (int tile = 0; tile < 4; ++tile) {
      std::uint32_t& value = block.template pair<kSlice>(L::kValues, row, 4 * block.n + tile);
      const float2 v = PackedBf16::unpack(value);
      const float2 dw = PackedBf16::unpack(block.template pair<kSlice>(L::kWrites, row, 4 * block.n + tile));
      float &x = w[tile][2 * half], &y = w[tile][2 * half + 1];
      x *= gain;
      y *= gain;
      sums.read[half] = fmaf(dw.x, x, fmaf(dw.y, y, sums.read[half]));
      x = v.x - x;
      y = v.y - y;
      value = pack_saturated(beta * x, beta * y);
    }
  }
}

// The prediction error E = w − M Y, and Δ = diag(β) E.
template <int kWidth>
__device__ __forceinline__ void recompute_deltas(const GradientBlock<kWidth>& block, const float (&w)[4][4],
                                                 GradientSums<kWidth>& sums) {
  using L = GradientLayout<kWidth>;
  const auto predicted = block.template tile<kChunk>(L::kPredicted);
  const auto written = block.template tile<kSlice>(L::kValues);
  float x[4][4] = {};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (k > block.m) break;
    std::uint32_t a[4], b[4];
    predicted.left(a, 16 * block.m, 2 * k, block.lane);
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      written.right(b, 16 * k, 4 * block.n + 2 * pair, block.lane);
      multiply_pair<PackedHalf>(x[2 * pair], x[2 * pair + 1], a, b);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = block.row(half);
    const float beta = block.scalars(kBeta)[row];
#pragma unroll
    for (int tile = 0; tile < 4; ++tile) {
      const float first = w[tile][2 * half] - x[tile][2 * half];
      const float second = w[tile][2 * half + 1] - x[tile][2 * half + 1];
      const float2 dw = PackedBf16::unpack(block.template pair<kSlice>(L::kWrites, row, 4 * block.n + tile));
      sums.error[half] = fmaf(dw.x, first, fmaf(dw.y, second, sums.error[half]));
      block.template pair<kSlice>(L::kDeltas, row, 4 * block.n + tile) =
          PackedBf16::pack(beta * first, beta * second);
    }
  }
}

// Rows of a left operand times a factor each.
__device__ __forceinline__ void scale_rows(std::uint32_t (&a)[4], float upper, float lower) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 x = PackedBf16::unpack(a[i]);
    const float factor = i % 2 == 0 ? upper : lower;
    a[i] = PackedBf16::pack(x.x * factor, x.y * factor);
  }
}

// β of a row whose dW still lacks it, else 1.
__device__ __forceinline__ float missing_factor(float beta) { return is_tiny(beta) ? beta : 1.0F; }

// p += dO Δᵀ, n += dW Δᵀ, q += dO Sᵀ, k += −diag(γ) dW Sᵀ + diag(ρ) Δ dSᵀ.
template <int kWidth>
__device__ __forceinline__ void add_slice(const GradientBlock<kWidth>& block, GradientSums<kWidth>& sums) {
  using L = GradientLayout<kWidth>;
  const auto outputs = block.template tile<kSlice>(L::kOutputs),
             writes = block.template tile<kSlice>(L::kWrites);
  const auto deltas = block.template tile<kSlice>(L::kDeltas),
             states = block.template tile<kSlice>(L::kStates);
  const auto state_gradients = block.template tile<kSlice>(L::kStateGradients);
  float write_factor[2], delta_factor[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = block.row(half);
    write_factor[half] = -block.scalars(kGamma)[row] * missing_factor(block.scalars(kBeta)[row]);
    delta_factor[half] = block.scalars(kRho)[row];
  }
#pragma unroll 1
  for (int k = 0; k < 4; ++k) {
    std::uint32_t dout[4], dw[4], delta[4], b[4];
    outputs.left(dout, 16 * block.m, 2 * k, block.lane);
    writes.left(dw, 16 * block.m, 2 * k, block.lane);
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      if (2 * block.n + pair > block.m) break;
      deltas.right_transposed(b, 16 * (2 * block.n + pair), 2 * k, block.lane);
      multiply_pair<PackedBf16>(sums.p[2 * pair], sums.p[2 * pair + 1], dout, b);
      multiply_pair<PackedBf16>(sums.n[2 * pair], sums.n[2 * pair + 1], dw, b);
    }
    deltas.left(delta, 16 * block.m, 2 * k, block.lane);
    scale_rows(dw, write_factor[0], write_factor[1]);
    scale_rows(delta, delta_factor[0], delta_factor[1]);
#pragma unroll
    for (int pair = 0; pair < kWidth / 32; ++pair) {
      const int row = block.n * (kWidth / 2) + 16 * pair;
      states.right_transposed(b, row, 2 * k, block.lane);
      multiply_pair<PackedBf16>(sums.q[2 * pair], sums.q[2 * pair + 1], dout, b);
      multiply_pair<PackedBf16>(sums.k[2 * pair], sums.k[2 * pair + 1], dw, b);
      state_gradients.right_transposed(b, row, 2 * k, block.lane);
      multiply_pair<PackedBf16>(sums.k[2 * pair], sums.k[2 * pair + 1], delta, b);
    }
  }
}

// A share of ⟨S, dS⟩; and dV where dW lacked its tiny β.
template <int kWidth>
__device__ __forceinline__ void finish_slice(const GradientBlock<kWidth>& block, GradientSums<kWidth>& sums,
                                             const GradientRows& to, int column, int width) {
  using L = GradientLayout<kWidth>;
  for (int i = block.thread; i < kWidth * 8; i += kGradientThreads) {
    const int at = Tile<kSlice>::offset(i / 8, i % 8);
    const uint4 s = *reinterpret_cast<const uint4*>(block.memory + L::kStates + at);
    const uint4 ds = *reinterpret_cast<const uint4*>(block.memory + L::kStateGradients + at);
    const std::uint32_t x[4] = {s.x, s.y, s.z, s.w}, dx[4] = {ds.x, ds.y, ds.z, ds.w};
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const float2 state = PackedBf16::unpack(x[c]), gradient = PackedBf16::unpack(dx[c]);
      sums.states = fmaf(state.x, gradient.x, fmaf(state.y, gradient.y, sums.states));
    }
  }
  for (int i = block.thread; i < to.rows * 32; i += kGradientThreads) {
    const int row = i / 32, first = i % 32 * 2;
    const float beta = block.scalars(kBeta)[row];
    if (!is_tiny(beta) || column + first >= width) continue;
    const int at = Tile<kSlice>::offset(row, first / 8) + first % 8 * 2;
    const float2 dy =
        PackedBf16::unpack(*reinterpret_cast<const std::uint32_t*>(block.memory + L::kWrites + at));
    *reinterpret_cast<std::uint32_t*>(to.writes + row * to.pitch + column + first) =
        PackedBf16::pack(beta * dy.x, beta * dy.y);
  }
}

}  // namespace braid::cuda::chunked
