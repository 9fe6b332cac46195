// Device code of the recurrence in reverse. The states inside a chunk are found again from the chunk's saved
// one, in runs of a few tokens whose states fit into shared memory; then each run is walked back.
#pragma once
#include "braid/backends/cuda/gated_delta/tile.cuh"

namespace braid::cuda::delta {

// Tokens in a run: all their states lie in shared memory, 128 KiB at most.
constexpr int run_tokens(int rows, int columns) { return rows * columns <= 32 ? 8 : 4; }

template <class T>
struct Backward {
  Problem<T> p;
  const T *dy, *checkpoints;
  const float *initial, *dfinal;
  T* dv;
  float* dinitial;
  float* starts;  // (blocks, runs in a chunk, tile): the state before each run, as its threads hold it
  float* dkey;    // (parts, N, Hv, 2, Dk): gradients of q̂ and k̂ from the columns of a part
  float *ddecay, *dbeta;  // (parts, N, Hv)
  std::int32_t parts;     // a block takes the slices part, part + parts, … of a head, one after the other

  __device__ __forceinline__ std::int64_t partial_row(std::int64_t n, const Place& at) const {
    return (at.slice % parts * p.tokens + n) * p.heads + at.head;
  }
  // Sums over the slices of a part. Each element has one thread, whatever the slice.
  __device__ __forceinline__ void accumulate(float* sum, float x, const Place& at) const {
    *sum = at.slice < parts ? x : *sum + x;
  }
};

template <int kRows, int kColumns>
struct Shared {
  static constexpr int kRun = run_tokens(kRows, kColumns);
  float states[kRun][kRows][kThreads][kColumns];  // before each token
  float errors[kRun][kLanes][kColumns];           // v − p
  float ddecay[kRun][kWarps];
  float sums[2][kSumFloats<kColumns>];
};

template <int kRows, int kColumns>
__device__ __forceinline__ void keep_tile(float* to, int stride, const float (&s)[kRows][kColumns]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    Columns<float, kColumns> values;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) values.values[c] = s[r][c];
    *reinterpret_cast<Columns<float, kColumns>*>(to + r * stride) = values;
  }
}
template <int kColumns>
__device__ __forceinline__ void fetch(float (&x)[kColumns], const float* from) {
  const auto values = *reinterpret_cast<const Columns<float, kColumns>*>(from);
#pragma unroll
  for (int c = 0; c < kColumns; ++c) x[c] = values.values[c];
}

// S ← α S + k̂ δᵀ; error = v − p.
template <int kRows, int kColumns>
__device__ __forceinline__ void advance_state(float (&s)[kRows][kColumns], const Token<kRows, kColumns>& t,
                                              float* shared, float (&error)[kColumns]) {
  float sums[kColumns + 1] = {};  // Sᵀk, k·k
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sums[c] = fmaf(s[r][c], t.k[r], sums[c]);
    sums[kColumns] = fmaf(t.k[r], t.k[r], sums[kColumns]);
  }
  sum_groups(sums, shared);
  const float decay = expf(t.log_decay), k_factor = unit_factor(sums[kColumns]);
#pragma unroll
  for (int c = 0; c < kColumns; ++c) error[c] = t.v[c] - decay * k_factor * sums[c];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      s[r][c] = fmaf(t.k[r], k_factor * t.beta * error[c], decay * s[r][c]);
    }
  }
}

// Sum over a group's lanes; each of them gets it.
__device__ __forceinline__ float sum_lanes(float x) {
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) x += __shfl_xor_sync(0xffffffffU, x, step);
  return x;
}

// What one token's gradient needs beside the states.
template <int kColumns>
struct Reversed {
  float k_factor, q_factor, decay;
  float dread[kColumns], delta[kColumns], dprediction[kColumns];
};

// Takes dS, the gradient of the state after the token, to that of the state `before` it. The parts of dq̂ and
// dk̂ that the thread's columns give are returned; the result is the thread's part of ⟨dS, α S⟩.
template <int kRows, int kColumns>
__device__ __forceinline__ float reverse_state(float (&ds)[kRows][kColumns],
                                               const float (*before)[kThreads][kColumns],
                                               const Token<kRows, kColumns>& t, const Reversed<kColumns>& w,
                                               float (&dq)[kRows], float (&dk)[kRows]) {
  float ddecay = 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float k = t.k[r] * w.k_factor, q = t.q[r] * w.q_factor;
    float state[kColumns];
    fetch(state, before[r][threadIdx.x]);
    dq[r] = dk[r] = 0;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const float decayed = w.decay * state[c];
      dq[r] = fmaf(fmaf(k, w.delta[c], decayed), w.dread[c], dq[r]);
      float d = fmaf(q, w.dread[c], ds[r][c]);
      dk[r] = fmaf(d, w.delta[c], fmaf(decayed, w.dprediction[c], dk[r]));
      d = fmaf(k, w.dprediction[c], d);  // the gradient of α S
      ddecay = fmaf(d, decayed, ddecay);
      ds[r][c] = w.decay * d;
    }
  }
  return ddecay;
}

// Token n, the i-th of its run, in reverse.
template <int kRows, int kColumns, class T>
__device__ __forceinline__ void reverse(float (&ds)[kRows][kColumns], const Backward<T>& b, const Place& at,
                                        std::int64_t n, int i, Shared<kRows, kColumns>& shared) {
  Token<kRows, kColumns> t;
  t.load(b.p, n, at);
  Reversed<kColumns> w;
  load_columns(w.dread, b.dy + b.p.value_row(n, at.head), at);
  float sums[kColumns + 3] = {};  // dSᵀk, k·k, q·q, k·q
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sums[c] = fmaf(ds[r][c], t.k[r], sums[c]);
    sums[kColumns] = fmaf(t.k[r], t.k[r], sums[kColumns]);
    sums[kColumns + 1] = fmaf(t.q[r], t.q[r], sums[kColumns + 1]);
    sums[kColumns + 2] = fmaf(t.k[r], t.q[r], sums[kColumns + 2]);
  }
  sum_groups(sums, shared.sums[i % 2]);
  w.decay = expf(t.log_decay);
  w.k_factor = unit_factor(sums[kColumns]);
  w.q_factor = unit_factor(sums[kColumns + 1]);
  float error[kColumns], dvalue[kColumns], dbeta = 0;
  fetch(error, shared.errors[i][at.lane]);
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    w.dread[c] *= b.p.scale;
    // The query's part of dS is not in ds yet.
    const float ddelta = w.k_factor * fmaf(sums[kColumns + 2] * w.q_factor, w.dread[c], sums[c]);
    w.delta[c] = t.beta * error[c];
    w.dprediction[c] = -t.beta * ddelta;
    dvalue[c] = t.beta * ddelta;
    dbeta = fmaf(ddelta, error[c], dbeta);
  }
  float dq[kRows], dk[kRows];
  const float ddecay = warp_sum(reverse_state(ds, shared.states[i], t, w, dq, dk));

  const std::int64_t row = b.partial_row(n, at);
  dbeta = sum_lanes(dbeta);
  if (threadIdx.x % 32 == 0) shared.ddecay[i][threadIdx.x / 32] = ddecay;
  if (threadIdx.x == 0) b.accumulate(b.dbeta + row, dbeta, at);
  if (at.group == 0) store_columns(b.dv + b.p.value_row(n, at.head), dvalue, at);
  float* dkey = b.dkey + row * 2 * at.dk;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    dq[r] = sum_lanes(dq[r]);
    dk[r] = sum_lanes(dk[r]);
    if (at.lane == r % kLanes && at.row(r) < at.dk) {
      b.accumulate(dkey + at.row(r), dq[r], at);
      b.accumulate(dkey + at.dk + at.row(r), dk[r], at);
    }
  }
}

// Tokens [begin, end) of one chunk, that starts in `state`.
template <int kRows, int kColumns, class T>
__device__ void reverse_chunk(float (&ds)[kRows][kColumns], float (&state)[kRows][kColumns],
                              const Backward<T>& b, const Place& at, std::int64_t begin, std::int64_t end,
                              Shared<kRows, kColumns>& shared) {
  constexpr int kRun = Shared<kRows, kColumns>::kRun, kTile = kRows * kThreads * kColumns;
  const int tokens = static_cast<int>(end - begin), last = (tokens - 1) / kRun;
  float* starts =
      b.starts + std::int64_t{blockIdx.x} * (ops::kDeltaChunk / kRun) * kTile + threadIdx.x * kColumns;
  Token<kRows, kColumns> token;
  float error[kColumns];
  for (int i = 0; i < last * kRun; ++i) {
    if (i % kRun == 0) keep_tile(starts + i / kRun * kTile, kThreads * kColumns, state);
    token.load(b.p, begin + i, at);
    advance_state(state, token, shared.sums[i % 2], error);
  }
  for (int run = last; run >= 0; --run) {
    const std::int64_t first = begin + run * kRun;
    const int length = min(kRun, tokens - run * kRun);
    if (run < last) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) fetch(state[r], starts + run * kTile + r * kThreads * kColumns);
    }
    __syncthreads();  // sums, errors and ddecay of what came before have been read
    for (int i = 0; i < length; ++i) {
      keep_tile(&shared.states[i][0][threadIdx.x][0], kThreads * kColumns, state);
      token.load(b.p, first + i, at);
      advance_state(state, token, shared.sums[i % 2], error);
      if (at.group == 0) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) shared.errors[i][at.lane][c] = error[c];
      }
    }
    __syncthreads();
    for (int i = length - 1; i >= 0; --i) reverse(ds, b, at, first + i, i, shared);
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < length) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) sum += shared.ddecay[threadIdx.x][w];
      b.accumulate(b.ddecay + b.partial_row(first + threadIdx.x, at), sum, at);
    }
  }
}

}  // namespace braid::cuda::delta
