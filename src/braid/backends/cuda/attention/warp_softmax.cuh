// Decoding on tensor cores: one warp's softmax over tiles of keys and values in shared memory. Rows 0 to 7 of
// its products are the query heads that share the key/value head, rows 8 to 15 what rounding to bf16 takes
// from the first rows' weights.
#pragma once
#include "braid/backends/cuda/device/approximate.cuh"
#include "braid/backends/cuda/device/ring.cuh"

namespace braid::cuda::flash {

// A tile: boxes of 64 elements of so many keys, then of their values.
inline constexpr int kTileKeys = 32, kBoxWidth = 64, kBoxBytes = kTileKeys * kBoxRowBytes;

// One warp's softmax over the tiles it took.
template <int kWidth>
struct WarpSoftmax {
  static constexpr int kSteps = kWidth / 16, kGroups = kWidth / 8, kKeyGroups = kTileKeys / 8;
  std::uint32_t q[kSteps][2];  // rows g, columns 2t and 2t + 8 of each step
  float sums[kGroups][4];
  float top, base,
      total;  // the largest score before and after it is scaled, to base 2; the sum of the weights

  __device__ __forceinline__ void start(const bf16* rows, std::int32_t queries, std::int32_t width,
                                        int lane) {
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int d = 16 * i + 8 * half + 2 * t;
        q[i][half] = g < queries && d < width
                         ? *reinterpret_cast<const std::uint32_t*>(rows + std::int64_t{g} * width + d)
                         : 0;
      }
    }
#pragma unroll
    for (auto& group : sums) {
#pragma unroll
      for (float& x : group) x = 0;
    }
    top = base = -INFINITY;
    total = 0;
  }

  // Where 16 bytes of a row lie in a tile of boxes.
  static __device__ __forceinline__ SharedAddress packet_at(SharedAddress tile, int row, int packet) {
    return cuda::packet_at(tile + packet / 8 * kBoxBytes, row, packet % 8);
  }

  // kMasked: keys that `sees` denies are left out, whatever their slots hold. factor: of a score, in base 2.
  template <bool kMasked, class Sees>
  __device__ __forceinline__ void take(SharedAddress keys, SharedAddress values, float factor, int lane,
                                       Sees&& sees) {
    const int matrix = lane / 8, within = lane % 8, t = lane % 4;
    float scores[kKeyGroups][4];
    // As packet_at, of 8 rows and packets 2i + matrix: all that depends on the lane.
    const SharedAddress key_packet = keys + within * kBoxRowBytes + ((matrix ^ within) << 4);
#pragma unroll
    for (auto& group : scores) {
#pragma unroll
      for (float& x : group) x = 0;
    }
#pragma unroll
    for (int i = 0; i < kSteps; i += 2) {
      const SharedAddress from = (key_packet ^ (2 * i % 8) << 4) + 2 * i / 8 * kBoxBytes;
#pragma unroll
      for (int j = 0; j < kKeyGroups; ++j) {
        std::uint32_t w[4];
        load_matrices(w, from + j * 8 * kBoxRowBytes);
#pragma unroll
        for (int s = 0; s < 2; ++s) {
          const std::uint32_t a[4] = {q[i + s][0], 0, q[i + s][1], 0};
          multiply(PackedBf16{}, scores[j], a, w[2 * s], w[2 * s + 1]);
        }
      }
    }
    float most = top;
    std::uint32_t mask[kKeyGroups] = {};
#pragma unroll
    for (int j = 0; j < kKeyGroups; ++j) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        if constexpr (kMasked) {
          const bool seen = sees(8 * j + 2 * t + c);
          if (!seen) scores[j][c] = -INFINITY;
          mask[j] |= seen ? 0xffffU << (16 * c) : 0;
        }
        most = fmaxf(most, scores[j][c]);
      }
    }
#pragma unroll
    for (int step = 1; step < 4; step *= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, step));
    // Rounded, and not joined with the difference below: what is relative to the same base keeps its weight
    // exactly.
    const float now = most == -INFINITY ? -INFINITY : __fmul_rn(most, factor),
                shift = most == -INFINITY ? 0.0F : now;
    const float rescale = fast_exp2(base - shift);  // exactly 1 where nothing new is larger
    top = most;
    base = now;
    if (__any_sync(0xffffffffU, rescale != 1.0F)) {
      total *= rescale;
#pragma unroll
      for (auto& group : sums) {
#pragma unroll
        for (float& x : group) x *= rescale;
      }
    }
    // Of 16 rows and packets i + matrix / 2.
    const SharedAddress value_packet =
        values + (8 * (matrix % 2) + within) * kBoxRowBytes + ((matrix / 2 ^ within) << 4);
#pragma unroll
    for (int step = 0; step < kTileKeys / 16; ++step) {
      std::uint32_t a[4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float(&s)[4] = scores[2 * step + half];
        const float x = fast_exp2(fmaf(s[0], factor, -shift)), y = fast_exp2(fmaf(s[1], factor, -shift));
        total += x + y;
        a[2 * half] = PackedBf16::pack(x, y);
        const float2 rounded = PackedBf16::unpack(a[2 * half]);
        a[2 * half + 1] = PackedBf16::pack(x - rounded.x, y - rounded.y);
      }
#pragma unroll
      for (int i = 0; i < kGroups; i += 2) {
        std::uint32_t w[4];
        load_matrices_transposed(
            w, (value_packet ^ (i % 8) << 4) + (i / 8 * kBoxBytes + step * 16 * kBoxRowBytes));
        if constexpr (kMasked) {
#pragma unroll
          for (int m = 0; m < 4; ++m) w[m] &= mask[2 * step + m % 2];
        }
        multiply(PackedBf16{}, sums[i], a, w[0], w[1]);
        multiply(PackedBf16{}, sums[i + 1], a, w[2], w[3]);
      }
    }
  }
};

}  // namespace braid::cuda::flash
