// SkipStepAdamW's rule against cases worked out by hand.
#include "braid/train/skip_step.h"

#include <gtest/gtest.h>

#include <cmath>

namespace braid::test {
namespace {

using train::SkipStep;

// 32 values of m − 1, 32 of m + 1 and one of m: mean m, unbiased deviation sqrt(64 / 64) = 1, all exact.
void enter_known(SkipStep& skip, double loss_mean, double norm_mean) {
  for (int i = 0; i < 65; ++i) {
    const double away = i == 64 ? 0 : i % 2 == 0 ? 1 : -1;
    EXPECT_EQ(skip.factor(loss_mean + away, norm_mean + away), 1);
  }
}

TEST(SkipStep, SixDeviationsAreKeptAndMoreAreSkipped) {
  for (const bool of_loss : {true, false}) {
    SkipStep skip({});
    enter_known(skip, 10, 20);
    auto other = skip;
    const auto factor = [&](SkipStep& s, double x) {
      return of_loss ? s.factor(x, 20) : s.factor(10, x + 10);
    };
    EXPECT_EQ(factor(skip, 16), 1);
    EXPECT_EQ(factor(other, std::nextafter(16.0, 17.0) + 1e-12), 0);
  }
}

TEST(SkipStep, OnlyHighValuesAreSkipped) {
  SkipStep skip({});
  enter_known(skip, 10, 20);
  EXPECT_EQ(skip.factor(-1000, -1000), 1);
}

TEST(SkipStep, NothingIsSkippedBefore64Entries) {
  SkipStep skip({});
  for (int i = 0; i < 62; ++i) skip.factor(1 + 0.01 * (i % 2), 1);
  auto early = skip;
  EXPECT_EQ(early.factor(1000, 1000), 1);  // the 63rd
  skip.factor(1, 1);
  EXPECT_EQ(skip.factor(1000, 1), 0);  // the 64th
}

TEST(SkipStep, SkippedValuesEnterTheHistory) {
  SkipStep skip({});
  enter_known(skip, 10, 20);
  EXPECT_EQ(skip.factor(1e6, 20), 0);
  EXPECT_EQ(skip.losses().back(), 1e6);
  // 65 values near 10 and one of 1e6 have mean 1.5e4 and deviation 1.2e5.
  EXPECT_EQ(skip.factor(1e5, 20), 1);
  EXPECT_EQ(skip.losses().size(), 67u);
}

TEST(SkipStep, TheWindowForgets) {
  SkipStep skip({});
  skip.factor(1e9, 1e9);
  for (int i = 0; i < 127; ++i) EXPECT_EQ(skip.factor(i % 2, 0), 1);
  auto before = skip;  // 128 entries, the first of which is 1e9
  EXPECT_EQ(before.factor(1e6, 0), 1);
  skip.factor(0, 0);
  EXPECT_EQ(skip.losses().size(), 129u);
  skip.factor(0, 0);  // 1e9 is gone
  EXPECT_EQ(skip.losses().size(), 129u);
  EXPECT_EQ(skip.losses().front(), 0);
  EXPECT_EQ(skip.factor(1e6, 0), 0);
}

TEST(SkipStep, AConstantHistoryHasNoSpread) {
  SkipStep skip({});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(skip.factor(0.1, 0.3), 1);
  EXPECT_EQ(skip.factor(0.05, 0.3), 1);
  SkipStep again({});
  for (int i = 0; i < 100; ++i) again.factor(0.1, 0.3);
  EXPECT_EQ(again.factor(std::nextafter(0.1, 1.0), 0.3), 0);
}

TEST(SkipStep, WindowAndSigmaAreOptions) {
  SkipStep skip({.window = 8, .sigma = 1});
  EXPECT_EQ(skip.factor(1, 1), 1);
  EXPECT_EQ(skip.factor(3, 1), 1);
  EXPECT_EQ(skip.factor(9, 1), 1);  // the third of four that are needed
  // 1, 3, 9: mean 13/3, unbiased deviation sqrt(52/3) = 4.163.
  auto more = skip;
  EXPECT_EQ(skip.factor(8.4, 1), 1);
  EXPECT_EQ(more.factor(8.6, 1), 0);
}

TEST(SkipStep, RestoredGoesOnTheSame) {
  SkipStep skip({});
  for (int i = 0; i < 140; ++i) skip.factor(std::sin(i), std::cos(i));
  SkipStep again({});
  again.restore(skip.losses(), skip.gradient_norms());
  for (int i = 0; i < 300; ++i) {
    const double loss = i % 37 == 0 ? 100.0 : std::sin(3 * i);
    ASSERT_EQ(skip.factor(loss, std::cos(i)), again.factor(loss, std::cos(i))) << i;
  }
}

}  // namespace
}  // namespace braid::test
