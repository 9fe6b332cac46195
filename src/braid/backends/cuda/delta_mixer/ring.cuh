// The mixer for more heads than multiprocessors hold at once: a block a multiprocessor takes every so many-th
// head, and the copy engine keeps the states of those it will come to on their way through a ring in shared
// memory. Two warps share 32 columns, half of the rows each; a head's next token is asked for while the one
// before is worked on.
#pragma once
#include "braid/backends/cuda/delta_mixer/step.cuh"
#include "braid/backends/cuda/device/ring.cuh"

namespace braid::cuda::delta_mixer {

inline constexpr int kHalves = 2, kMostStages = 8;

// States that fit into the ring of a block that may have `shared_bytes`.
inline int ring_stages(std::size_t shared_bytes, std::int32_t dk, std::int32_t dv) {
  constexpr std::size_t kOther = 10 * 1024;  // of the kernel, besides
  const auto state = static_cast<std::size_t>(dk) * static_cast<std::size_t>(dv) * 4;
  return shared_bytes < kOther
             ? 0
             : static_cast<int>(std::min<std::size_t>((shared_bytes - kOther) / state, kMostStages));
}

// Every stride-th head, those of all tokens counted through.
struct Item {
  std::int64_t index;
  std::int32_t token, head;

  __device__ __forceinline__ Item(std::int32_t first, std::int32_t heads)
      : index(first), token(first / heads), head(first % heads) {}
  __device__ __forceinline__ void advance(std::int32_t tokens, std::int32_t by, std::int32_t heads) {
    index += std::int64_t{tokens} * heads + by;
    token += tokens;
    head += by;
    if (head >= heads) head -= heads, ++token;
  }
};

// What a thread asks for of its next head while it works on another.
template <class T>
struct Ahead {
  typename Convolution<T>::Channel channel;
  float a, b, a_log, dt_bias;
  T gate;
};

template <int kRows, class T>
__global__ void __launch_bounds__(32 * kHalves * kMostWarps, 1)
    ring_kernel(__grid_constant__ const Step<T> s, int stages) {
  constexpr int kKeys = kHalves * kGroups * kRows;
  __shared__ __align__(16) float q[kKeys], k[kKeys], v[kMostValueWidth];
  __shared__ __align__(16) float column_sums[kHalves][2][kMostValueWidth];
  __shared__ float squares[kMostWarps], products[kHalves][3];
  __shared__ float2 gates;
  __shared__ std::uint64_t barriers[kMostStages];
  auto* const ring = reinterpret_cast<float*>(dynamic_shared());
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x),
            warps = threads / (32 * kHalves), warp = thread / 32 % warps, half = thread / 32 / warps,
            lane = thread % kLanes, group = thread % 32 / kLanes;
  const int size = s.dk * s.dv;
  const SharedAddress arrivals = shared_address(barriers);
  const auto blocks = static_cast<std::int32_t>(gridDim.x);
  const std::int32_t tokens_on = blocks / s.heads, heads_on = blocks % s.heads;
  const auto fetch = [&](std::int64_t item, int stage) {
    if (thread != 0 || item >= s.items) return;
    arrive_expecting(arrivals + stage * 8, size * 4);
    copy_bulk(shared_address(ring + stage * size), s.state + item * size, size * 4, arrivals + stage * 8,
              used_once());
  };
  if (thread == 0) {
    for (int i = 0; i < stages; ++i) init_barrier(arrivals + i * 8, 1);
    publish_barriers();
  }
  __syncthreads();
  begin_early(s.ahead);
  for (int i = 0; i < stages; ++i) fetch(blockIdx.x + std::int64_t{i} * blocks, i);

  const int column = warp * kWarpColumns + lane * kColumns, first = (half * kGroups + group) * kRows;
  const bool inside = column < s.dv, finishes = inside && half == 0, has_gates = thread == threads - 1;
  const std::int32_t channels = 2 * s.dk + s.dv;
  const float weight = finishes ? s.norm[column + group] : 0.0F;
  const auto look_before = [&](const Item& item, Ahead<T>& ahead) {
    if (item.index >= s.items) return;
    if (thread < channels) ahead.channel = Convolution<T>{s, item.token, item.head}.load_before(thread);
    if (has_gates) {
      ahead.a_log = s.a_log[item.head];
      ahead.dt_bias = s.dt_bias[item.head];
    }
  };
  const auto look_now = [&](const Item& item, Ahead<T>& ahead) {
    if (item.index >= s.items) return;
    if (thread < channels) Convolution<T>{s, item.token, item.head}.load_now(ahead.channel);
    if (finishes) ahead.gate = s.gate[item.index * s.dv + column + group];
    if (has_gates) {
      const float* ab = s.ab + std::int64_t{item.token} * 2 * s.heads + item.head;
      ahead.a = ab[0];
      ahead.b = ab[s.heads];
    }
  };

  Item item(static_cast<std::int32_t>(blockIdx.x), s.heads);
  Ahead<T> ahead{};
  look_before(item, ahead);
  if (s.ahead) wait_for_earlier();
  look_now(item, ahead);
  Turn turn;
  while (item.index < s.items) {
    const Convolution<T> convolution{s, item.token, item.head};
    if (thread < channels) convolution.put(thread, ahead.channel, q, k, v);
    for (std::int32_t i = thread + threads; i < channels; i += threads) {
      convolution.put(i, convolution.load(i), q, k, v);
    }
    for (int i = s.dk + thread; i < kKeys; i += threads) q[i] = k[i] = 0;
    if (has_gates) gates = gates_of(ahead.a, ahead.b, ahead.a_log, ahead.dt_bias, s.beta_scale);
    const float gate = to_float(ahead.gate);

    wait_for_phase(arrivals + turn.stage * 8, turn.parity);
    const float* held = ring + turn.stage * size + first * s.dv + column;
    Columns state[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      state[r] = inside && first + r < s.dk ? load<kColumns>(held + r * s.dv) : Columns{};
    }
    fence_shared_for_async();
    __syncthreads();  // the token is there, and all have read the state
    fetch(item.index + std::int64_t{stages} * blocks, turn.stage);
    Item next = item;
    next.advance(tokens_on, heads_on, s.heads);
    look_before(next, ahead);
    look_now(next, ahead);

    float sums[kSums], values[kColumns];
    sum_rows(sums, state, k + first, q + first);
    if (group == 0) {
      Columns to_k, to_q;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        to_k.set(c, sums[c]);
        to_q.set(c, sums[kColumns + c]);
      }
      store(column_sums[half][0] + column, to_k);
      store(column_sums[half][1] + column, to_q);
    }
    if (warp == 0 && thread % 32 == 0) {
#pragma unroll
      for (int i = 0; i < 3; ++i) products[half][i] = sums[2 * kColumns + i];
    }
    __syncthreads();
    const auto other_k = load<kColumns>(column_sums[1 - half][0] + column),
               other_q = load<kColumns>(column_sums[1 - half][1] + column),
               own_v = load<kColumns>(v + column);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      sums[c] += other_k[c];
      sums[kColumns + c] += other_q[c];
      values[c] = inside ? own_v[c] : 0.0F;
    }
#pragma unroll
    for (int i = 0; i < 3; ++i) sums[2 * kColumns + i] += products[1 - half][i];
    const Change change(s, sums, gates, values);
    if (inside) {
      change.store_rows(s.state + item.index * size + first * s.dv + column, s.dv, s.dk - first, state,
                        k + first);
    }
    if (half == 0) {
      const float square = change.warp_squares(inside);
      if (thread % 32 == 0) squares[warp] = square;
    }
    __syncthreads();  // also: nobody needs this token any more
    if (finishes) {
      const float factor = norm_factor(s, squares, warps);
      s.y[item.index * s.dv + column + group] =
          from_float<T>(change.output(group) * factor * weight * silu(gate));
    }
    turn.next(stages);
    item = next;
  }
}

}  // namespace braid::cuda::delta_mixer
