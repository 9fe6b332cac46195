// As src/braid/backends/cuda/device/wgmma.cuh, emulated.
#pragma once
#include "braid/backends/cuda/device/tensor_core.cuh"

namespace braid::cuda {

enum class RowSwizzle : std::uint64_t { bytes128 = 1, bytes64 = 2 };

// Addresses count from the block's dynamic shared memory.
inline std::uint64_t matrix_descriptor(SharedAddress address, int slab, int group, RowSwizzle swizzle) {
  const SharedAddress at = address - shared_address(dynamic_shared());
  if (at % 16 != 0 || at >> 18 != 0) throw std::runtime_error("emulation: no place for an operand");
  return std::uint64_t{at >> 4} | static_cast<std::uint64_t>(slab >> 4) << 16 |
         static_cast<std::uint64_t>(group >> 4) << 32 | static_cast<std::uint64_t>(swizzle) << 62;
}

enum class Lines : int { along_k = 0, along_n = 1 };

inline float value_of(PackedBf16, std::uint16_t bits) { return __uint_as_float(std::uint32_t{bits} << 16); }
inline float value_of(PackedHalf, std::uint16_t bits) { return __half2float(__ushort_as_half(bits)); }

// An operand in shared memory; n is the row of a left one.
struct EmulatedOperand {
  std::uint32_t begin, slab, group, line;

  explicit EmulatedOperand(std::uint64_t d)
      : begin(static_cast<std::uint32_t>(d & 0x3fff) << 4),
        slab(static_cast<std::uint32_t>(d >> 16 & 0x3fff) << 4),
        group(static_cast<std::uint32_t>(d >> 32 & 0x3fff) << 4),
        line(d >> 62 == static_cast<std::uint64_t>(RowSwizzle::bytes128) ? 128 : 64) {}

  template <class Packed>
  float value(Lines lines, int n, int k) const {
    const auto across = static_cast<std::uint32_t>(lines == Lines::along_k ? n : k);
    const auto along = static_cast<std::uint32_t>(lines == Lines::along_k ? k : n) * 2;
    if (lines == Lines::along_k && begin % line + along >= line)
      throw std::runtime_error("emulation: k leaves its line");
    std::uint32_t at = begin + across / 8 * group + across % 8 * line + along / line * slab + along % line;
    at ^= line == 128 ? (at >> 7 & 7) << 4 : (at >> 7 & 3) << 4;
    std::uint16_t bits = 0;
    std::memcpy(&bits, dynamic_shared() + at, 2);
    return value_of(Packed{}, bits);
  }
};

template <class Packed, Lines kLines, bool kAdd, int kTiles, class Left>
void emulate_product(float (&d)[kTiles][4], const Left& left, std::uint64_t right) {
  const EmulatedOperand b(right);
  const int g = test::emulation::lane() / 4, t = test::emulation::lane() % 4;
  float a[2][16];
  for (int row = 0; row < 2; ++row) {
    for (int k = 0; k < 16; ++k) a[row][k] = left(g + 8 * row, k);
  }
  for (int tile = 0; tile < kTiles; ++tile) {
    for (int c = 0; c < 4; ++c) {
      double sum = kAdd ? d[tile][c] : 0.0F;
      for (int k = 0; k < 16; ++k) {
        sum += double{a[c / 2][k]} * b.value<Packed>(kLines, 8 * tile + 2 * t + c % 2, k);
      }
      d[tile][c] = static_cast<float>(sum);
    }
  }
}
template <Lines kLines, bool kAdd, class Packed, int kTiles>
void multiply_async(Packed, float (&d)[kTiles][4], const std::uint32_t (&x)[4], std::uint64_t y) {
  test::emulation::start_product([&d, &x, y] {
    const test::emulation::Words mine{x[0], x[1], x[2], x[3]};
    test::emulation::Words all[32];
    test::emulation::exchange(mine, all);
    emulate_product<Packed, kLines, kAdd>(
        d,
        [&](int row, int k) {
          const std::uint32_t pair = all[row % 8 * 4 + k % 8 / 2][k / 8 * 2 + row / 8];
          const auto bits = static_cast<std::uint16_t>(k % 2 == 0 ? pair : pair >> 16);
          return value_of(Packed{}, bits);
        },
        y);
  });
}
template <Lines kLines, bool kAdd, class Packed, int kTiles>
void multiply_async(Packed, float (&d)[kTiles][4], std::uint64_t x, std::uint64_t y) {
  test::emulation::start_product([&d, x, y] {
    const EmulatedOperand a(x);
    const int first = static_cast<int>(test::emulation::thread() / 32 % 4 * 16);
    emulate_product<Packed, kLines, kAdd>(
        d, [&](int row, int k) { return a.value<Packed>(Lines::along_k, first + row, k); }, y);
  });
}

template <class... Registers>
void begin_products(Registers&...) {}
inline void commit_products() { test::emulation::end_product_group(); }
template <int kPending, class... Registers>
void wait_for_products(Registers&...) {
  test::emulation::wait_for_product_groups(kPending);
}

}  // namespace braid::cuda
