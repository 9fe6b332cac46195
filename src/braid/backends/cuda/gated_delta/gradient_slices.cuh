// The gradient kernel's pass over the value width, 64 columns at a time: the i-th of them, each warpgroup
// first for half of the columns, then for its own side.
#pragma once
#include "braid/backends/cuda/gated_delta/gradient_block.cuh"

namespace braid::cuda::chunked {

// Where the tensors of one (chunk, head) begin.
struct GradientPlace {
  std::int64_t values;  // in V, dO and dW
  std::int64_t state;   // in the states and their gradients
  std::int64_t pitch;   // of rows of the former
  int rows;
};
// What the kernel is called with.
struct GradientCall {
  const Problem& p;
  const Inputs& in;
  const GradientInputs& from;
  const Gradients& out;
};

template <class AnyTile>
__device__ __forceinline__ void copy_columns(AnyTile tile, const bf16* from, std::int64_t pitch, int rows,
                                             int column, int width, int thread) {
  constexpr int kRows = AnyTile::kSlabBytes / 64;
  copy_tile_async<kRows, kGradientThreads>(tile, from + column, pitch, rows, width - column, thread);
}

// S and V: what the first products need.
template <int kWidth>
__device__ __forceinline__ void copy_read(const GradientBlock<kWidth>& block, const GradientCall& call,
                                          const GradientPlace& place, int i) {
  const int column = i * kSlice, width = call.p.value_width;
  if (column < width) {
    copy_columns(block.states(i), call.from.states + place.state, width, call.p.key_width, column, width,
                 block.thread);
    copy_columns(block.values(i), call.in.v + place.values, place.pitch, place.rows, column, width,
                 block.thread);
  }
  commit_copies();
}
// dW, dO and dS.
template <int kWidth>
__device__ __forceinline__ void copy_gradients(const GradientBlock<kWidth>& block, const GradientCall& call,
                                               const GradientPlace& place, int i) {
  using L = GradientLayout<kWidth>;
  const int column = i * kSlice, width = call.p.value_width;
  if (column < width) {
    copy_columns(block.square(L::kWrites), call.out.dv + place.values, place.pitch, place.rows, column, width,
                 block.thread);
    copy_columns(block.square(L::kOutputs), call.from.dy + place.values, place.pitch, place.rows, column,
                 width, block.thread);
    copy_columns(block.state_gradients(), call.from.dstates + place.state, width, call.p.key_width, column,
                 width, block.thread);
  }
  commit_copies();
}

// w = diag(γ) K̂ S but for the factors of rows, in the warpgroup's 32 columns; under way on return.
template <int kWidth>
__device__ __forceinline__ void begin_read(const GradientBlock<kWidth>& block, float (&w)[4][4], int i) {
  begin_products(w);
  multiply_steps<Lines::along_n, false, kWidth / 16>(
      PackedBf16{}, w, [&](int k) { return columns_along_k(block.keys(), k); },
      [&](int k, int) { return rows_along_k(block.states(i), k, block.group); });
  commit_products();
}

// w = diag(γ) K̂ S − V; Y = −diag(β) w takes the place of V.
template <int kWidth>
__device__ __forceinline__ void recompute_written(const GradientBlock<kWidth>& block, float (&w)[4][4],
                                                  GradientSums<kWidth>& sums, int i) {
  using L = GradientLayout<kWidth>;
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    const int packet = 4 * block.group + 2 * pair;
    std::uint32_t v[4], dw[4];
    block.values(i).left(v, 16 * block.m, packet, block.lane);
    block.square(L::kWrites).left(dw, 16 * block.m, packet, block.lane);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = block.row(half);
      const float gain = block.scalars(kKeyGain)[row], beta = block.scalars(kBeta)[row];
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
        float &x = w[2 * pair + tile][2 * half], &y = w[2 * pair + tile][2 * half + 1];
        const float2 value = PackedBf16::unpack(v[2 * tile + half]);
        const float2 gradient = PackedBf16::unpack(dw[2 * tile + half]);
        x *= gain;
        y *= gain;
        sums.read[half] = fmaf(gradient.x, x, fmaf(gradient.y, y, sums.read[half]));
        x -= value.x;
        y -= value.y;
        v[2 * tile + half] = pack_saturated(-beta * x, -beta * y);
      }
    }
    block.values(i).store(v, 16 * block.m, packet, block.lane);
  }
}

// w becomes −E, E the prediction error −w − M Y; Δ = diag(β) E, and in the place of Y diag(ρ) Δ.
template <int kWidth>
__device__ __forceinline__ void recompute_deltas(const GradientBlock<kWidth>& block, float (&w)[4][4],
                                                 GradientSums<kWidth>& sums, int i) {
  using L = GradientLayout<kWidth>;
  begin_products(w);
  multiply_steps<Lines::along_n, true, kChunk / 16>(
      PackedHalf{}, w, [&](int k) { return columns_along_k(block.square(L::kPredicted), k); },
      [&](int k, int) { return rows_along_k(block.values(i), k, block.group); });
  commit_products();
  wait_for_products<0>(w);
  warpgroup_barrier(block.group);  // every warp's product has read Y
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    const int packet = 4 * block.group + 2 * pair;
    std::uint32_t dw[4], delta[4], decayed[4];
    block.square(L::kWrites).left(dw, 16 * block.m, packet, block.lane);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = block.row(half);
      const float beta = block.scalars(kBeta)[row], rho = block.scalars(kRho)[row];
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
        const int at = 2 * pair + tile;
        const float first = w[at][2 * half], second = w[at][2 * half + 1];
        const float2 gradient = PackedBf16::unpack(dw[2 * tile + half]);
        sums.error[half] = fmaf(gradient.x, -first, fmaf(gradient.y, -second, sums.error[half]));
        delta[2 * tile + half] = PackedBf16::pack(-beta * first, -beta * second);
        decayed[2 * tile + half] = PackedBf16::pack(-beta * first * rho, -beta * second * rho);
      }
    }
    block.square(L::kDeltas).store(delta, 16 * block.m, packet, block.lane);
    block.values(i).store(decayed, 16 * block.m, packet, block.lane);
  }
}

// β of a row whose dW still lacks it, else 1.
__device__ __forceinline__ float missing_factor(float beta) { return is_tiny(beta) ? beta : 1.0F; }

// d += x b, with the rows of b (kWidth, 64) along n; 16 kSteps of k from the first-th 16 on.
template <int kWidth, int kSteps, class Left>
__device__ __forceinline__ void multiply_by_state(float (&d)[kWidth / 8][4], Left x,
                                                  typename GradientLayout<kWidth>::StateTile b, int first) {
  multiply_steps<Lines::along_k, true, kSteps>(
      PackedBf16{}, d, x, [&](int k, int n) { return columns_along_k(b, first + k, n); });
  commit_products();
}

// pairs += dO Δᵀ or dW Δᵀ, rows += dO Sᵀ or −diag(γ) dW Sᵀ + diag(ρ) Δ dSᵀ. `meanwhile` runs beside the
// products.
template <int kWidth, class Work>
__device__ __forceinline__ void add_slice(const GradientBlock<kWidth>& block, GradientSums<kWidth>& sums,
                                          int i, Work meanwhile) {
  using L = GradientLayout<kWidth>;
  constexpr int kSteps = kSlice / 16;
  const auto own = block.own_square(), deltas = block.square(L::kDeltas);
  const auto own_columns = [&](int k) { return columns_along_k(own, k); };
  begin_products(sums.pairs);
  multiply_steps<Lines::along_k, true, kSteps>(PackedBf16{}, sums.pairs, own_columns,
                                               [&](int k, int n) { return columns_along_k(deltas, k, n); });
  commit_products();
  begin_products(sums.rows);
  const auto left = block.writes() ? block.values(i) : own;
  multiply_by_state<kWidth, kSteps>(
      sums.rows, [&](int k) { return columns_along_k(left, k); },
      block.writes() ? block.state_gradients() : block.states(i), 0);
  meanwhile();
  wait_for_products<0>(sums.pairs, sums.rows);
  if (!block.writes()) return;
  // The rows of dW times −γ, half of the columns at a time: that many registers are left.
  float factor[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = block.row(half);
    factor[half] = -block.scalars(kGamma)[row] * missing_factor(block.scalars(kBeta)[row]);
  }
#pragma unroll
  for (int first = 0; first < kSteps; first += 2) {
    std::uint32_t x[2][4];
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      own.left(x[k], 16 * block.m, 2 * (first + k), block.lane);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float2 value = PackedBf16::unpack(x[k][j]);
        x[k][j] = PackedBf16::pack(value.x * factor[j % 2], value.y * factor[j % 2]);
      }
    }
    begin_products(sums.rows, x);
    multiply_by_state<kWidth, 2>(
        sums.rows, [&](int k) -> const auto& { return x[k]; }, block.states(i), first);
    wait_for_products<0>(sums.rows, x);
  }
}

// A share of ⟨S, dS⟩.
template <int kWidth>
__device__ __forceinline__ void add_state_product(const GradientBlock<kWidth>& block,
                                                  GradientSums<kWidth>& sums, int i) {
  using L = GradientLayout<kWidth>;
  const unsigned char* states = block.memory + L::kStates + i % 2 * L::StateTile::kBytes;
  const unsigned char* gradients = block.memory + L::kStateGradients;
  constexpr int kRound = kGradientThreads * 16;
  static_assert(L::StateTile::kBytes % kRound == 0);
#pragma unroll
  for (int round = 0; round < L::StateTile::kBytes / kRound; ++round) {
    const int at = round * kRound + block.thread * 16;
    const uint4 s = *reinterpret_cast<const uint4*>(states + at);
    const uint4 ds = *reinterpret_cast<const uint4*>(gradients + at);
    const std::uint32_t x[4] = {s.x, s.y, s.z, s.w}, dx[4] = {ds.x, ds.y, ds.z, ds.w};
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const float2 state = PackedBf16::unpack(x[c]), gradient = PackedBf16::unpack(dx[c]);
      sums.states = fmaf(state.x, gradient.x, fmaf(state.y, gradient.y, sums.states));
    }
  }
}

// dV where dW lacked its tiny β.
template <int kWidth>
__device__ __forceinline__ void complete_writes(const GradientBlock<kWidth>& block, const GradientCall& call,
                                                const GradientPlace& place, int i) {
  using L = GradientLayout<kWidth>;
  const auto lacks = [&](int row) { return row < place.rows && is_tiny(block.scalars(kBeta)[row]); };
  if (!__any_sync(0xffffffffU, lacks(block.lane) || lacks(block.lane + 32))) return;
  for (int j = block.thread; j < place.rows * 32; j += kGradientThreads) {
    const int row = j / 32, first = j % 32 * 2, column = i * kSlice + first;
    if (!lacks(row) || column >= call.p.value_width) continue;
    const float beta = block.scalars(kBeta)[row];
    const int at = L::kWrites + L::Square::offset(row, first / 8) + first % 8 * 2;
    const float2 dy = PackedBf16::unpack(*reinterpret_cast<const std::uint32_t*>(block.memory + at));
    *reinterpret_cast<std::uint32_t*>(call.out.dv + place.values + row * place.pitch + column) =
        PackedBf16::pack(beta * dy.x, beta * dy.y);
  }
}

// All columns. On entry the copies of the chunk's own tensors are on their way; on return the tensor cores
// have read all that lies in shared memory.
template <int kWidth>
__device__ __forceinline__ void add_slices(const GradientBlock<kWidth>& block, GradientSums<kWidth>& sums,
                                           const GradientCall& call, const GradientPlace& place) {
  copy_read(block, call, place, 0);
  copy_gradients(block, call, place, 0);
  wait_for_copies<1>();
  block.publish();
  const int slices = (call.p.value_width + kSlice - 1) / kSlice;
#pragma unroll 1
  for (int i = 0; i < slices; ++i) {
    copy_read(block, call, place, i + 1);
    float w[4][4] = {};
    begin_read(block, w, i);
    wait_for_copies<1>();
    block.publish();
    wait_for_products<0>(w);
    recompute_written(block, w, sums, i);
    block.publish_in_group();
    recompute_deltas(block, w, sums, i);
    block.publish();
    add_slice(block, sums, i, [&] {
      add_state_product(block, sums, i);
      complete_writes(block, call, place, i);
    });
    wait_for_copies<0>();
    block.publish();
    copy_gradients(block, call, place, i + 1);
  }
}

}  // namespace braid::cuda::chunked
