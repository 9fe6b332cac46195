#include "braid/core/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace braid {
namespace {

std::array<std::uint32_t, 4> block(Random random) {
  return {random.next_u32(), random.next_u32(), random.next_u32(), random.next_u32()};
}

// philox4x32 with 10 rounds, from tests/kat_vectors of the Random123 distribution (Salmon et al., SC'11).
// Counter words: counter, then stream, low word first; key words: seed.
TEST(Random, KnownAnswers) {
  using Words = std::array<std::uint32_t, 4>;
  EXPECT_EQ(block(Random(0, 0, 0)), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(block(Random(~0ull, ~0ull, ~0ull)), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(block(Random(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88)),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Value i is a function of (seed, stream, i): a generator may start anywhere in its own sequence.
TEST(Random, CounterSkipsBlocksOfFour) {
  Random from_start(7, 3);
  for (int i = 0; i < 4 * 5; ++i) from_start.next_u32();
  Random skipped(7, 3, 5);
  for (int i = 0; i < 20; ++i) ASSERT_EQ(skipped.next_u32(), from_start.next_u32());
}

TEST(Random, SeedsAndStreamsDiffer) {
  EXPECT_NE(block(Random(1)), block(Random(2)));
  EXPECT_NE(block(Random(1, 0)), block(Random(1, 1)));
  EXPECT_NE(block(Random(1, 1ull << 32)), block(Random(1, 0)));
  EXPECT_NE(block(Random(1ull << 32)), block(Random(0)));
}

constexpr int kDraws = 200000;

struct Moments {
  double mean, variance, fourth;
};
Moments moments_of(const std::vector<double>& x) {
  const auto n = static_cast<double>(x.size());
  double sum = 0, squares = 0, fourths = 0;
  for (const double v : x) sum += v;
  for (const double v : x) {
    const double d = v - sum / n;
    squares += d * d;
    fourths += d * d * d * d;
  }
  return {sum / n, squares / n, fourths / n};
}

// Limits are five standard errors of each estimate at kDraws.
TEST(Random, UniformFillsTheUnitInterval) {
  Random random(11);
  std::vector<double> x(kDraws);
  std::array<int, 10> bins{};
  for (auto& v : x) {
    v = random.uniform();
    ASSERT_GE(v, 0);
    ASSERT_LT(v, 1);
    ++bins[static_cast<std::size_t>(v * 10)];
  }
  const auto m = moments_of(x);
  EXPECT_NEAR(m.mean, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(m.variance, 1.0 / 12, 5 * std::sqrt((1.0 / 80 - 1.0 / 144) / kDraws));
  for (const int count : bins) EXPECT_NEAR(count, kDraws / 10, 5 * std::sqrt(kDraws * 0.09));
}

TEST(Random, NormalHasNormalMoments) {
  Random random(12);
  std::vector<double> x(kDraws);
  for (auto& v : x) v = random.normal();
  const auto m = moments_of(x);
  EXPECT_NEAR(m.mean, 0, 5 / std::sqrt(kDraws));
  EXPECT_NEAR(m.variance, 1, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(m.fourth, 3, 5 * std::sqrt(96.0 / kDraws));
  const auto beyond = std::count_if(x.begin(), x.end(), [](double v) { return std::abs(v) > 1.959964; });
  EXPECT_NEAR(static_cast<double>(beyond) / kDraws, 0.05, 5 * std::sqrt(0.05 * 0.95 / kDraws));
}

TEST(Random, TruncatedNormalStaysInsideItsCut) {
  Random random(13);
  std::vector<double> x(kDraws);
  for (auto& v : x) {
    v = random.truncated_normal(2);
    ASSERT_LE(std::abs(v), 2);
  }
  const auto m = moments_of(x);
  EXPECT_NEAR(m.mean, 0, 5 / std::sqrt(kDraws));
  EXPECT_NEAR(m.variance, 0.773741, 5 * std::sqrt(2.0 / kDraws));  // 1 − 4 φ(2) / (2 Φ(2) − 1)
}

TEST(Random, BelowIsUniform) {
  Random random(14);
  std::array<int, 7> bins{};
  for (int i = 0; i < kDraws; ++i) ++bins[random.below(7)];
  for (const int count : bins) EXPECT_NEAR(count, kDraws / 7.0, 5 * std::sqrt(kDraws * 6 / 49.0));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(random.below(1), 0u);
  // 3 · 2^62 values: without rejection the first quarter of 2^64 would come up twice as often.
  int low = 0;
  for (int i = 0; i < kDraws; ++i) low += random.below(3ull << 62) < (1ull << 62) ? 1 : 0;
  EXPECT_NEAR(low, kDraws / 3.0, 5 * std::sqrt(kDraws * 2 / 9.0));
}

}  // namespace
}  // namespace braid
