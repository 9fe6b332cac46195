// Device code of the token-by-token gated delta rule: a block holds some columns of one head's state in
// registers and applies one token at a time. Shared by decoding (step.cu) and the exact path (recurrent*.cu).
#pragma once
#include <algorithm>

#include "braid/backends/cuda/device/math.cuh"
#include "braid/backends/cuda/gated_delta/recurrent.h"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda::delta {

inline constexpr int kLanes =
    8;  // neighbouring threads, side by side along Dv: 128-byte rows with 4 floats each
inline constexpr int kGroups = 16;  // of lanes, along Dk
inline constexpr int kThreads = kLanes * kGroups;
inline constexpr int kWarps = kThreads / 32;

// What a kernel reads of a call. Pointers may be null where the op lets a tensor be undefined.
template <class T>
struct Problem {
  const T *q, *k, *v;
  const float *log_decay, *beta;
  const std::int32_t* offsets;
  std::int64_t tokens, segments;
  std::int32_t key_heads, heads, dk, dv, slices;
  float scale;

  __device__ __forceinline__ std::int64_t key_row(std::int64_t n, std::int32_t head) const {
    return (n * key_heads + head / (heads / key_heads)) * dk;
  }
  __device__ __forceinline__ std::int64_t value_row(std::int64_t n, std::int32_t head) const {
    return (n * heads + head) * dv;
  }
  std::int64_t tasks() const { return segments * heads * slices; }
};

// `columns` per thread, so kLanes times as many in the slice of one block.
template <class T>
Problem<T> make_problem(const ops::GatedDeltaInputs& in, const ops::Segments& segments, double scale,
                        int columns) {
  return {.q = pointer<T>(in.q),
          .k = pointer<T>(in.k),
          .v = pointer<T>(in.v),
          .log_decay = pointer<float>(in.log_decay),
          .beta = pointer<float>(in.beta),
          .offsets = pointer<std::int32_t>(segments.offsets),
          .tokens = in.v.shape[0],
          .segments = segments.count(),
          .key_heads = static_cast<std::int32_t>(in.k.shape[1]),
          .heads = static_cast<std::int32_t>(in.v.shape[1]),
          .dk = static_cast<std::int32_t>(in.k.shape[2]),
          .dv = static_cast<std::int32_t>(in.v.shape[2]),
          .slices = static_cast<std::int32_t>(ceil_div(in.v.shape[2], kLanes * columns)),
          .scale = static_cast<float>(scale)};
}

// Columns per thread of a tile: vectors of 4 where every row is whole vectors.
constexpr int tile_columns(std::int64_t dv) { return dv % 4 == 0 ? 4 : 1; }

// Calls f.template operator()<kRows, kColumns>() for the smallest tile that holds Dk rows.
template <class F>
void visit_tile(std::int64_t dk, std::int64_t dv, F&& f) {
  if (tile_columns(dv) == 1) return f.template operator()<kMaxKeyWidth / kGroups, 1>();
  if (dk <= 2 * kGroups) return f.template operator()<2, 4>();
  if (dk <= 4 * kGroups) return f.template operator()<4, 4>();
  if (dk <= 6 * kGroups) return f.template operator()<6, 4>();
  if (dk <= 8 * kGroups) return f.template operator()<8, 4>();
  f.template operator()<kMaxKeyWidth / kGroups, 4>();
}

// Which part of a state a thread holds: rows group + kGroups · r, and columns from `column` on.
struct Place {
  std::int32_t segment, head, slice, lane, group, column, dk, dv;
  bool inside;  // the columns exist

  // `task` < p.tasks(): slices of a head follow each other.
  template <class T>
  __device__ __forceinline__ Place(const Problem<T>& p, std::int32_t task, int columns)
      : segment(task / p.slices / p.heads),
        head(task / p.slices % p.heads),
        slice(task % p.slices),
        lane(static_cast<std::int32_t>(threadIdx.x) % kLanes),
        group(static_cast<std::int32_t>(threadIdx.x) / kLanes),
        column((slice * kLanes + lane) * columns),
        dk(p.dk),
        dv(p.dv),
        inside(column < dv) {}
  __device__ __forceinline__ std::int32_t row(int r) const { return group + kGroups * r; }
};

// Loads and stores of what a thread holds. What lies outside the matrix reads as zero and is not written.
template <class T, int kColumns>
struct alignas(sizeof(T) * kColumns) Columns {
  T values[kColumns];
};

// `row`: the first column of the row.
template <int kColumns, class T>
__device__ __forceinline__ void load_columns(float (&x)[kColumns], const T* row, const Place& at) {
  Columns<T, kColumns> values{};
  if (at.inside) values = *reinterpret_cast<const Columns<T, kColumns>*>(row + at.column);
#pragma unroll
  for (int c = 0; c < kColumns; ++c) x[c] = at.inside ? to_float(values.values[c]) : 0.0F;
}
template <int kColumns, class T>
__device__ __forceinline__ void store_columns(T* row, const float (&x)[kColumns], const Place& at) {
  if (!at.inside) return;
  Columns<T, kColumns> values;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) values.values[c] = from_float<T>(x[c]);
  *reinterpret_cast<Columns<T, kColumns>*>(row + at.column) = values;
}

// `matrix`: one head's (Dk, Dv), or null for zeros.
template <int kRows, int kColumns, class T>
__device__ __forceinline__ void load_tile(float (&s)[kRows][kColumns], const T* matrix, const Place& at) {
  const std::int64_t stride = std::int64_t{kGroups} * at.dv;
  const T* from = matrix + static_cast<std::int64_t>(at.group) * at.dv;
  const std::int32_t rows = matrix != nullptr ? at.dk : 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    Columns<T, kColumns> values{};
    if (at.inside && at.row(r) < rows) {
      values = *reinterpret_cast<const Columns<T, kColumns>*>(from + r * stride + at.column);
    }
#pragma unroll
    for (int c = 0; c < kColumns; ++c) s[r][c] = to_float(values.values[c]);
  }
}
template <int kRows, int kColumns, class T>
__device__ __forceinline__ void store_tile(T* matrix, const float (&s)[kRows][kColumns], const Place& at) {
  const std::int64_t stride = std::int64_t{kGroups} * at.dv;
  T* to = matrix + static_cast<std::int64_t>(at.group) * at.dv;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (at.row(r) < at.dk) store_columns(to + r * stride, s[r], at);
  }
}
template <int kRows, class T>
__device__ __forceinline__ void load_rows(float (&x)[kRows], const T* vector, const Place& at) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) x[r] = at.row(r) < at.dk ? to_float(vector[at.row(r)]) : 0.0F;
}

// The head's matrix in a tensor (…, Hv, Dk, Dv); null stays null.
template <class T>
__device__ __forceinline__ T* matrix_of(T* states, std::int64_t slot, std::int64_t heads, const Place& at) {
  return states == nullptr ? nullptr : states + (slot * heads + at.head) * at.dk * at.dv;
}

// One token as read, keys and queries not yet normalised.
template <int kRows, int kColumns>
struct Token {
  float q[kRows], k[kRows], v[kColumns], log_decay, beta;

  template <class T>
  __device__ __forceinline__ void load(const Problem<T>& p, std::int64_t n, const Place& at) {
    load_columns(v, p.v + p.value_row(n, at.head), at);
    log_decay = p.log_decay[n * p.heads + at.head];
    beta = p.beta[n * p.heads + at.head];
    load_rows(q, p.q + p.key_row(n, at.head), at);
    load_rows(k, p.k + p.key_row(n, at.head), at);
  }
};

// Sums over the groups, lane by lane, in a fixed order; every thread gets its lane's. `shared` holds
// kWarps · kLanes · kCount floats and may be used again after another barrier.
template <int kCount>
__device__ __forceinline__ void sum_groups(float (&x)[kCount], float* shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % kLanes;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
#pragma unroll
    for (int step = kLanes; step < 32; step *= 2) x[i] += __shfl_xor_sync(0xffffffffU, x[i], step);
  }
  if (threadIdx.x % 32 < kLanes) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) shared[(warp * kLanes + lane) * kCount + i] = x[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    x[i] = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) x[i] += shared[(w * kLanes + lane) * kCount + i];
  }
}

// 1 / √(|x|² + ε), the hardware's estimate with one Newton step: about an ulp, without the branches of a
// division.
__device__ __forceinline__ float unit_factor(float squares) {
  const float x = squares + static_cast<float>(ops::kDeltaNormEpsilon), factor = rsqrtf(x);
  return fmaf(0.5F * factor, fmaf(-x * factor, factor, 1.0F), factor);
}

// Floats that advance() needs in shared memory. Two buffers, used in turn, need no further barrier.
template <int kColumns>
inline constexpr int kSumFloats = kWarps* kLanes*(2 * kColumns + 3);

// S ← α S + k̂ δᵀ and y = scale · Sᵀ q̂, with one pass over the old state for both dots:
// Sᵀq̂ = α S_oldᵀ q̂ + (k̂·q̂) δ.
template <int kRows, int kColumns>
__device__ __forceinline__ void advance(float (&s)[kRows][kColumns], const Token<kRows, kColumns>& t,
                                        float scale, float* shared, float (&y)[kColumns]) {
  float sums[2 * kColumns + 3] = {};  // Sᵀk, Sᵀq, k·k, q·q, k·q
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      sums[c] = fmaf(s[r][c], t.k[r], sums[c]);
      sums[kColumns + c] = fmaf(s[r][c], t.q[r], sums[kColumns + c]);
    }
    sums[2 * kColumns] = fmaf(t.k[r], t.k[r], sums[2 * kColumns]);
    sums[2 * kColumns + 1] = fmaf(t.q[r], t.q[r], sums[2 * kColumns + 1]);
    sums[2 * kColumns + 2] = fmaf(t.k[r], t.q[r], sums[2 * kColumns + 2]);
  }
  sum_groups(sums, shared);
  const float decay = expf(t.log_decay), k_factor = unit_factor(sums[2 * kColumns]),
              q_factor = unit_factor(sums[2 * kColumns + 1]), similarity = sums[2 * kColumns + 2] * k_factor;
  float write[kColumns];  // δ / |k|
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    const float delta = t.beta * (t.v[c] - decay * k_factor * sums[c]);
    y[c] = scale * q_factor * (decay * sums[kColumns + c] + similarity * delta);
    write[c] = k_factor * delta;
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) s[r][c] = fmaf(t.k[r], write[c], decay * s[r][c]);
  }
}

}  // namespace braid::cuda::delta
