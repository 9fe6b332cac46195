#include "braid/core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace braid {
namespace {

float from_bits(std::uint32_t bits) { return std::bit_cast<float>(bits); }

template <class Half>
Half half_of(std::uint32_t bits) {
  Half h;
  h.bits = static_cast<std::uint16_t>(bits);
  return h;
}

// Exact value from the fields of IEEE 754: the definition that the fast conversions are held against.
double value_of_f16(std::uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31), mantissa = static_cast<int>(bits & 1023);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) return mantissa == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

double value_of_bf16(std::uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 7 & 255), mantissa = static_cast<int>(bits & 127);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 255) return mantissa == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(mantissa, -133);
  return sign * std::ldexp(128 + mantissa, exponent - 134);
}

template <class Half>
void expect_all_patterns_round_trip(double (*value_of)(std::uint32_t)) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto value = static_cast<float>(half_of<Half>(bits));
    const double want = value_of(bits);
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      ASSERT_TRUE(std::isnan(static_cast<float>(Half(value)))) << bits;
      continue;
    }
    ASSERT_EQ(static_cast<double>(value), want) << bits;
    ASSERT_EQ(std::signbit(value), (bits & 0x8000) != 0) << bits;
    ASSERT_EQ(Half(value).bits, bits);
  }
}

TEST(BFloat16, AllPatternsRoundTrip) { expect_all_patterns_round_trip<BFloat16>(value_of_bf16); }
TEST(Float16, AllPatternsRoundTrip) { expect_all_patterns_round_trip<Float16>(value_of_f16); }

// Between every two neighbours: the midpoint goes to the even one, its f32 neighbours to the nearer one.
template <class Half>
void expect_ties_to_even(double (*value_of)(std::uint32_t), std::uint32_t infinity) {
  for (std::uint32_t low = 0; low + 1 < infinity; ++low) {
    const std::uint32_t high = low + 1, even = low % 2 == 0 ? low : high;
    const auto middle = static_cast<float>((value_of(low) + value_of(high)) / 2);
    ASSERT_EQ(Half(middle).bits, even) << low;
    ASSERT_EQ(Half(-middle).bits, even | 0x8000u) << low;
    ASSERT_EQ(Half(std::nextafter(middle, 0.0f)).bits, low) << low;
    ASSERT_EQ(Half(std::nextafter(middle, INFINITY)).bits, high) << low;
  }
}

TEST(BFloat16, TiesGoToEven) { expect_ties_to_even<BFloat16>(value_of_bf16, 0x7f80); }
TEST(Float16, TiesGoToEven) { expect_ties_to_even<Float16>(value_of_f16, 0x7c00); }

TEST(Float16, Overflow) {
  EXPECT_EQ(Float16(65504.0f).bits, 0x7bff);
  EXPECT_EQ(Float16(65519.996f).bits, 0x7bff);
  EXPECT_EQ(Float16(65520.0f).bits, 0x7c00);  // the tie goes up to 65536, which is infinity
  EXPECT_EQ(Float16(-1e30f).bits, 0xfc00);
  EXPECT_EQ(Float16(INFINITY).bits, 0x7c00);
}

TEST(Float16, Underflow) {
  EXPECT_EQ(Float16(0x1p-24f).bits, 1);
  EXPECT_EQ(Float16(0x1p-25f).bits, 0);  // tie to zero, which is even
  EXPECT_EQ(Float16(0x1.000002p-25f).bits, 1);
  EXPECT_EQ(Float16(-0x1p-30f).bits, 0x8000);
  EXPECT_EQ(Float16(from_bits(1)).bits, 0);  // the smallest f32 subnormal
}

TEST(BFloat16, Overflow) {
  EXPECT_EQ(BFloat16(std::numeric_limits<float>::max()).bits, 0x7f80);
  EXPECT_EQ(BFloat16(from_bits(0x7f7f7fff)).bits, 0x7f7f);
  EXPECT_EQ(BFloat16(from_bits(0x7f7f8000)).bits, 0x7f80);
  EXPECT_EQ(BFloat16(-INFINITY).bits, 0xff80);
}

// NaN payloads in the low 16 bits must not turn into infinity.
TEST(Halves, NanStaysNan) {
  for (const std::uint32_t bits :
       {0x7f800001u, 0x7f80ffffu, 0x7fc00000u, 0xff800001u, 0xffffffffu, 0x7fffffffu}) {
    EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(from_bits(bits))))) << bits;
    EXPECT_TRUE(std::isnan(static_cast<float>(Float16(from_bits(bits))))) << bits;
  }
}

TEST(DTypes, SizesNamesAndAccumulators) {
  EXPECT_EQ(size_of(DType::f64), 8u);
  EXPECT_EQ(size_of(DType::i64), 8u);
  EXPECT_EQ(size_of(DType::f32), 4u);
  EXPECT_EQ(size_of(DType::i32), 4u);
  EXPECT_EQ(size_of(DType::bf16), 2u);
  EXPECT_EQ(size_of(DType::f16), 2u);
  EXPECT_EQ(size_of(DType::u8), 1u);
  EXPECT_EQ(name_of(DType::f32), "f32");
  EXPECT_EQ(name_of(DType::bf16), "bf16");
  EXPECT_EQ(name_of(DType::u8), "u8");
  EXPECT_EQ(accumulator_of(DType::bf16), DType::f32);
  EXPECT_EQ(accumulator_of(DType::f64), DType::f64);
}

TEST(DTypes, VisitFloatCallsTheTypeOrThrows) {
  const auto size = []<class T>() { return sizeof(T); };
  EXPECT_EQ(visit_float(DType::f32, size), 4u);
  EXPECT_EQ(visit_float(DType::f64, size), 8u);
  EXPECT_THROW(visit_float(DType::bf16, size), Error);
  EXPECT_THROW(visit_float(DType::i32, size), Error);
}

}  // namespace
}  // namespace braid
