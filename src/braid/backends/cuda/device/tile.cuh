// Tiles of 16-bit values in shared memory, and the ways in which a warp reads and writes them as fragments.
#pragma once
#include "braid/backends/cuda/device/tensor_core.cuh"

namespace braid::cuda {

// Rows of kWidth values, in packets of 16 bytes. Packets are permuted within a row so that the eight rows of
// one 8 x 8 matrix lie in different banks.
template <int kWidth>
struct Tile {
  static_assert(kWidth % 32 == 0);
  static constexpr int kPackets = kWidth / 8, kRowBytes = kWidth * 2;

  SharedAddress base;

  static __device__ __forceinline__ int offset(int row, int packet) {
    const int swizzle = kPackets % 8 == 0 ? row & 7 : (row >> 1) & 3;
    return row * kRowBytes + ((packet ^ swizzle) << 4);
  }
  __device__ __forceinline__ SharedAddress at(int row, int packet) const {
    return base + offset(row, packet);
  }

  // Blocks of 16 x 16 values with the first at (row, 8 packet), as one load per lane. Rows first: matrix 1
  // lies below matrix 0, matrix 2 right of it. Columns first: matrix 1 right, matrix 2 below.
  __device__ __forceinline__ SharedAddress rows_first(int row, int packet, int lane) const {
    return at(row + (lane & 15), packet + (lane >> 4));
  }
  __device__ __forceinline__ SharedAddress columns_first(int row, int packet, int lane) const {
    return at(row + (lane & 7) + ((lane >> 4) << 3), packet + ((lane >> 3) & 1));
  }

  // a of a product: 16 rows and 16 columns of the stored matrix, or of its transpose (row and packet as
  // stored).
  __device__ __forceinline__ void left(std::uint32_t (&a)[4], int row, int packet, int lane) const {
    load_matrices(a, rows_first(row, packet, lane));
  }
  __device__ __forceinline__ void left_transposed(std::uint32_t (&a)[4], int row, int packet,
                                                  int lane) const {
    load_matrices_transposed(a, columns_first(row, packet, lane));
  }
  // b of two products side by side, stored (k, n) or, transposed, (n, k): b[0..1] and b[2..3].
  __device__ __forceinline__ void right(std::uint32_t (&b)[4], int row, int packet, int lane) const {
    load_matrices_transposed(b, rows_first(row, packet, lane));
  }
  __device__ __forceinline__ void right_transposed(std::uint32_t (&b)[4], int row, int packet,
                                                   int lane) const {
    load_matrices(b, columns_first(row, packet, lane));
  }
};

// c[0], c[1] += a times the two halves of b.
template <class Packed>
__device__ __forceinline__ void multiply_pair(float (&c0)[4], float (&c1)[4], const std::uint32_t (&a)[4],
                                              const std::uint32_t (&b)[4]) {
  multiply(Packed{}, c0, a, b[0], b[1]);
  multiply(Packed{}, c1, a, b[2], b[3]);
}

// Two neighbouring 16 x 8 accumulators as the a (16 x 16) of a product, or as four matrices to store.
template <class Packed>
__device__ __forceinline__ void pack_pair(std::uint32_t (&a)[4], const float (&c0)[4], const float (&c1)[4],
                                          float factor = 1.0F) {
  a[0] = Packed::pack(c0[0] * factor, c0[1] * factor);
  a[1] = Packed::pack(c0[2] * factor, c0[3] * factor);
  a[2] = Packed::pack(c1[0] * factor, c1[1] * factor);
  a[3] = Packed::pack(c1[2] * factor, c1[3] * factor);
}

// A tile in slabs of 32 columns, each kRows lines of 64 bytes, for products that read either index of the
// matrix along its lines (wgmma.cuh). `base` is a multiple of 512.
template <int kRows, int kWidth>
struct Slabs {
  static_assert(kRows % 8 == 0 && kWidth % 32 == 0);
  static constexpr int kPackets = kWidth / 8, kSlabBytes = kRows * 64, kBytes = kWidth / 32 * kSlabBytes;

  SharedAddress base;

  static __device__ __forceinline__ int offset(int row, int packet) {
    return packet / 4 * kSlabBytes + Tile<32>::offset(row, packet % 4);
  }
  __device__ __forceinline__ SharedAddress at(int row, int packet) const {
    return base + offset(row, packet);
  }
  // 16 x 16 values lie in one slab: `packet` is even.
  __device__ __forceinline__ Tile<32> slab(int packet) const {
    return {base + static_cast<SharedAddress>(packet / 4 * kSlabBytes)};
  }
  __device__ __forceinline__ void left(std::uint32_t (&a)[4], int row, int packet, int lane) const {
    slab(packet).left(a, row, packet % 4, lane);
  }
  __device__ __forceinline__ void left_transposed(std::uint32_t (&a)[4], int row, int packet,
                                                  int lane) const {
    slab(packet).left_transposed(a, row, packet % 4, lane);
  }
  // What left() reads.
  __device__ __forceinline__ void store(const std::uint32_t (&a)[4], int row, int packet, int lane) const {
    store_matrices(slab(packet).rows_first(row, packet % 4, lane), a);
  }
};

// kRows rows of a tile, of which the first `rows` rows and `width` columns exist (the rest become zero),
// from rows `pitch` values apart. `thread` of kThreads that call this; the copies are committed by the
// caller.
template <int kRows, int kThreads, class AnyTile, class T>
__device__ __forceinline__ void copy_tile_async(AnyTile tile, const T* from, std::int64_t pitch, int rows,
                                                int width, int thread) {
  static_assert(sizeof(T) == 2);
  constexpr int kPackets = AnyTile::kPackets;
  constexpr int kCount = kRows * kPackets, kRounds = (kCount + kThreads - 1) / kThreads;
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int i = round * kThreads + thread;
    if (kCount % kThreads != 0 && i >= kCount) break;
    const int row = i / kPackets, packet = i % kPackets;
    const bool valid = row < rows && packet * 8 < width;
    copy_async(tile.at(row, packet), valid ? from + row * pitch + packet * 8 : from, valid);
  }
}

}  // namespace braid::cuda
