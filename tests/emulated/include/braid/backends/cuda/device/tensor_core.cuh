// As src/braid/backends/cuda/device/tensor_core.cuh, emulated: what the emulated kernels use of it.
#pragma once
#include <cuda_fp16.h>

#include "tests/emulated/emulation.h"

namespace braid::cuda {

using bf16 = __nv_bfloat16;

struct PackedBf16 {
  static std::uint32_t pack(float low, float high) {
    const bf16 both[2] = {__float2bfloat16_rn(low), __float2bfloat16_rn(high)};
    std::uint32_t packed = 0;
    std::memcpy(&packed, both, sizeof(packed));
    return packed;
  }
  static float2 unpack(std::uint32_t x) {
    return {__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000U)};
  }
};

struct PackedHalf {
  static std::uint32_t pack(float low, float high) {
    const __half both[2] = {__float2half_rn(low), __float2half_rn(high)};
    std::uint32_t packed = 0;
    std::memcpy(&packed, both, sizeof(packed));
    return packed;
  }
};
inline constexpr float kLargestHalf = 65504.0F;
inline std::uint32_t pack_saturated(float low, float high) {
  const auto saturated = [](float x) {
    return x > kLargestHalf ? kLargestHalf : x < -kLargestHalf ? -kLargestHalf : x;
  };
  return PackedHalf::pack(saturated(low), saturated(high));
}

inline void multiply(PackedBf16, float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                     std::uint32_t b1) {
  const test::emulation::Words mine{a[0], a[1], a[2], a[3], b0, b1};
  test::emulation::Words all[32];
  test::emulation::exchange(mine, all);
  const auto value = [&](int lane, int word, int half) {
    const float2 both = PackedBf16::unpack(all[lane][word]);
    return half == 0 ? both.x : both.y;
  };
  const int g = test::emulation::lane() / 4, t = test::emulation::lane() % 4;
  for (int i = 0; i < 4; ++i) {
    const int row_half = i / 2, column = 2 * t + i % 2;  // rows g and g + 8
    double sum = c[i];
    for (int k = 0; k < 16; ++k) {
      const int k_half = k / 8, within = k % 8;
      sum += double{value(4 * g + within / 2, 2 * k_half + row_half, within % 2)} *
             value(4 * column + within / 2, 4 + k_half, within % 2);
    }
    c[i] = static_cast<float>(sum);
  }
}

using SharedAddress = std::uint32_t;
inline SharedAddress shared_address(const void* p) { return test::emulation::shared_address(p); }
inline char* shared_pointer(SharedAddress address) { return test::emulation::shared_pointer(address); }
inline unsigned char* dynamic_shared() { return test::emulation::dynamic_shared(); }
inline unsigned char* aligned_dynamic_shared() { return test::emulation::dynamic_shared(); }

// Calls move(matrix, i, place) for both halves of what the lane has of four matrices.
template <bool kTransposed, class Move>
void for_matrix_parts(SharedAddress row, Move move) {
  if (row % 16 != 0) throw std::runtime_error("emulation: a matrix's row is not on a multiple of 16");
  const test::emulation::Words mine{row};
  test::emulation::Words all[32];
  test::emulation::exchange(mine, all);
  const int g = test::emulation::lane() / 4, t = test::emulation::lane() % 4;
  for (int matrix = 0; matrix < 4; ++matrix) {
    for (int i = 0; i < 2; ++i) {
      const int at_row = kTransposed ? 2 * t + i : g, column = kTransposed ? g : 2 * t + i;
      move(matrix, i, shared_pointer(all[8 * matrix + at_row][0]) + 2 * column);
    }
  }
}
template <bool kTransposed>
void load_matrices_as(std::uint32_t (&r)[4], SharedAddress row) {
  test::emulation::note(test::emulation::Access::load, row, 16);
  for_matrix_parts<kTransposed>(row, [&](int matrix, int i, const char* from) {
    std::memcpy(reinterpret_cast<char*>(&r[matrix]) + 2 * i, from, 2);
  });
}
inline void load_matrices(std::uint32_t (&r)[4], SharedAddress row) { load_matrices_as<false>(r, row); }
inline void load_matrices_transposed(std::uint32_t (&r)[4], SharedAddress row) {
  load_matrices_as<true>(r, row);
}
template <bool kTransposed>
void store_matrices_as(SharedAddress row, const std::uint32_t (&r)[4]) {
  test::emulation::note(test::emulation::Access::store, row, 16);
  for_matrix_parts<kTransposed>(row, [&](int matrix, int i, char* to) {
    std::memcpy(to, reinterpret_cast<const char*>(&r[matrix]) + 2 * i, 2);
  });
}
inline void store_matrices(SharedAddress row, const std::uint32_t (&r)[4]) {
  store_matrices_as<false>(row, r);
}
inline void store_matrices_transposed(SharedAddress row, const std::uint32_t (&r)[4]) {
  store_matrices_as<true>(row, r);
}

inline void store_shared(SharedAddress to, uint4 x) {
  test::emulation::note(test::emulation::Access::store, to, 16);
  std::memcpy(shared_pointer(to), &x, sizeof(x));
}
inline uint4 load_shared(SharedAddress from) {
  test::emulation::note(test::emulation::Access::load, from, 16);
  uint4 x;
  std::memcpy(&x, shared_pointer(from), sizeof(x));
  return x;
}
inline void copy_async(SharedAddress to, const void* from, bool valid) {
  if (to % 16 != 0 || (valid && reinterpret_cast<std::uintptr_t>(from) % 16 != 0)) {
    throw std::runtime_error("emulation: an asynchronous copy is not on a multiple of 16 bytes");
  }
  test::emulation::copy_by_thread([=] {
    if (valid) {
      std::memcpy(shared_pointer(to), from, 16);
    } else {
      std::memset(shared_pointer(to), 0, 16);
    }
  });
}
inline void commit_copies() { test::emulation::end_group(); }
template <int kPending>
void wait_for_copies() {
  test::emulation::wait_for_groups(kPending);
}

template <int kThreads>
void block_barrier() {
  test::emulation::meet(1, kThreads);
}
inline void warpgroup_barrier(int group) { test::emulation::meet(group + 2, 128); }
inline void wait_for_turn(int group) { test::emulation::meet(group + 4, 256); }
inline void pass_turn_to(int group) { test::emulation::arrive_at(group + 4, 256); }

}  // namespace braid::cuda
