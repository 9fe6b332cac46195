// Products of f32 tiles in shared memory by a block of 16 x 16 threads. Thread (y, x) owns rows y, y + 16,
// ... and columns x, x + 16, ... of scores, and columns 4 x ... 4 x + 3 of every 64 of head-wide results.
// Every sum runs in ascending order, so equal rows give equal bits whichever kernel multiplies them.
#pragma once
#include "braid/backends/cuda/attention/tiles.cuh"
#include "braid/backends/cuda/device/math.cuh"

namespace braid::cuda::flash {

inline constexpr int kThreads = 256;

__device__ __forceinline__ int thread_row() { return static_cast<int>(threadIdx.x) / 16; }
__device__ __forceinline__ int thread_column() { return static_cast<int>(threadIdx.x) % 16; }

// kRows rows of kWidth floats, padded so that neighbouring rows start in different banks.
template <int kRows, int kWidth>
struct SharedTile {
  static constexpr int kStride = kWidth + 4, kFloats = kRows * kStride;
  float* data;
  __device__ float* row(int r) const { return data + r * kStride; }

  // Row r comes from row_at(r); where that is null, and beyond `width`, zeros.
  template <class F>
  __device__ void load(std::int32_t width, F&& row_at) const {
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kWidth; i += kThreads) {
      const int r = i / kWidth, d = i % kWidth;
      const auto* from = row_at(r);
      row(r)[d] = from != nullptr && d < width ? to_float(from[d]) : 0.0F;
    }
  }
};

__device__ __forceinline__ float4 load4(const float* p) { return *reinterpret_cast<const float4*>(p); }

// scores[i][j] = row thread_row + 16 i of a · row thread_column + 16 j of b
template <int R, int kWidth>
__device__ __forceinline__ void dot_rows(float (&scores)[R][R], const SharedTile<16 * R, kWidth>& a,
                                         const SharedTile<16 * R, kWidth>& b) {
#pragma unroll
  for (int i = 0; i < R; ++i) {
#pragma unroll
    for (int j = 0; j < R; ++j) scores[i][j] = 0;
  }
#pragma unroll 2
  for (int d = 0; d < kWidth; d += 4) {
    float4 left[R], right[R];
#pragma unroll
    for (int i = 0; i < R; ++i) left[i] = load4(a.row(thread_row() + 16 * i) + d);
#pragma unroll
    for (int j = 0; j < R; ++j) right[j] = load4(b.row(thread_column() + 16 * j) + d);
#pragma unroll
    for (int i = 0; i < R; ++i) {
#pragma unroll
      for (int j = 0; j < R; ++j) {
        float s = scores[i][j];
        s = fmaf(left[i].x, right[j].x, s);
        s = fmaf(left[i].y, right[j].y, s);
        s = fmaf(left[i].z, right[j].z, s);
        scores[i][j] = fmaf(left[i].w, right[j].w, s);
      }
    }
  }
}

// Rows of a result as wide as a head, kept in registers: sum[i][4 c + e] is column 64 c + 4 thread_column +
// e.
template <int R, int kWidth>
struct Rows {
  float sum[R][kWidth / 16];

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < R; ++i) {
#pragma unroll
      for (int c = 0; c < kWidth / 16; ++c) sum[i][c] = 0;
    }
  }
  __device__ void scale_row(int i, float factor) {
#pragma unroll
    for (int c = 0; c < kWidth / 16; ++c) sum[i][c] *= factor;
  }

  // Adds weights (16 R, 16 R) · values (16 R, kWidth).
  __device__ void add(const SharedTile<16 * R, 16 * R>& weights, const SharedTile<16 * R, kWidth>& values) {
#pragma unroll 4
    for (int j = 0; j < 16 * R; ++j) {
      float weight[R];
#pragma unroll
      for (int i = 0; i < R; ++i) weight[i] = weights.row(thread_row() + 16 * i)[j];
#pragma unroll
      for (int c = 0; c < kWidth / 64; ++c) {
        const float4 value = load4(values.row(j) + 64 * c + 4 * thread_column());
#pragma unroll
        for (int i = 0; i < R; ++i) {
          sum[i][4 * c] = fmaf(weight[i], value.x, sum[i][4 * c]);
          sum[i][4 * c + 1] = fmaf(weight[i], value.y, sum[i][4 * c + 1]);
          sum[i][4 * c + 2] = fmaf(weight[i], value.z, sum[i][4 * c + 2]);
          sum[i][4 * c + 3] = fmaf(weight[i], value.w, sum[i][4 * c + 3]);
        }
      }
    }
  }

  // Stores the row at i, over `divisor`.
  template <class T>
  __device__ void store(T* to, int i, std::int32_t width, float divisor = 1) const {
#pragma unroll
    for (int c = 0; c < kWidth / 16; ++c) {
      const int d = 64 * (c / 4) + 4 * thread_column() + c % 4;
      if (d < width) to[d] = from_float<T>(sum[i][c] / divisor);
    }
  }
};

// Scores stored as weights for Rows::add.
template <int R>
__device__ __forceinline__ void store_scores(const SharedTile<16 * R, 16 * R>& to,
                                             const float (&scores)[R][R]) {
#pragma unroll
  for (int i = 0; i < R; ++i) {
#pragma unroll
    for (int j = 0; j < R; ++j) to.row(thread_row() + 16 * i)[thread_column() + 16 * j] = scores[i][j];
  }
}

}  // namespace braid::cuda::flash
