// Element types, and the two 16-bit floats with their conversions (round to nearest even).
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "braid/core/error.h"

namespace braid {

enum class DType : std::uint8_t { f32, f64, bf16, f16, i32, i64, u8 };

constexpr std::size_t size_of(DType t) {
  switch (t) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}

constexpr std::string_view name_of(DType t) {
  constexpr std::string_view names[] = {"f32", "f64", "bf16", "f16", "i32", "i64", "u8"};
  return names[static_cast<std::size_t>(t)];
}

// Statistics, gates, states and losses of `t` tensors are kept in this type: f64 for f64, else f32.
constexpr DType accumulator_of(DType t) { return t == DType::f64 ? DType::f64 : DType::f32; }

struct BFloat16 {
  std::uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = nan ? static_cast<std::uint16_t>((u >> 16) | 0x40u)
               : static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

struct Float16 {
  std::uint16_t bits = 0;
  Float16() = default;
  explicit Float16(float value);
  explicit operator float() const;
};

template <class T>
inline constexpr bool is_element_type = false;
template <class T>
inline constexpr DType dtype_of = DType::f32;
#define BRAID_ELEMENT(T, D)                        \
  template <>                                      \
  inline constexpr bool is_element_type<T> = true; \
  template <>                                      \
  inline constexpr DType dtype_of<T> = DType::D;
BRAID_ELEMENT(float, f32)
BRAID_ELEMENT(double, f64)
BRAID_ELEMENT(BFloat16, bf16)
BRAID_ELEMENT(Float16, f16)
BRAID_ELEMENT(std::int32_t, i32)
BRAID_ELEMENT(std::int64_t, i64)
BRAID_ELEMENT(std::uint8_t, u8)
#undef BRAID_ELEMENT

// Calls f.template operator()<float or double>().
template <class F>
decltype(auto) visit_float(DType t, F&& f) {
  if (t == DType::f32) return f.template operator()<float>();
  if (t == DType::f64) return f.template operator()<double>();
  fail("dtype {} is not supported here: expected f32 or f64", name_of(t));
}

}  // namespace braid
