#include "braid/data/order.h"

#include <algorithm>
#include <numeric>

#include "tests/data/fixture.h"

namespace braid::data {
namespace {

std::vector<std::int64_t> epoch(std::uint64_t seed, std::int64_t instances, std::int64_t number) {
  const Order order(seed, instances);
  std::vector<std::int64_t> seen;
  for (std::int64_t i = 0; i < instances; ++i) seen.push_back(order.at(number * instances + i));
  return seen;
}

TEST(Order, EachInstanceOnceAnEpoch) {
  for (const std::int64_t n : {1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4097}) {
    for (const std::int64_t number : {0, 1, 5}) {
      std::vector<std::int64_t> seen = epoch(42, n, number), want(static_cast<std::size_t>(n));
      std::iota(want.begin(), want.end(), 0);
      std::ranges::sort(seen);
      EXPECT_EQ(seen, want) << n << " instances, epoch " << number;
    }
  }
}

TEST(Order, SeedsAndEpochsDiffer) {
  EXPECT_EQ(epoch(1, 1000, 0), epoch(1, 1000, 0));
  EXPECT_NE(epoch(1, 1000, 0), epoch(2, 1000, 0));
  EXPECT_NE(epoch(1, 1000, 0), epoch(1, 1000, 1));
  EXPECT_NE(epoch(1, 1000, 1), epoch(2, 1000, 0));
}

TEST(Order, NeverChanges) {  // a resumed run must go on in the order in which it began
  EXPECT_EQ(epoch(34521, 10, 0), (std::vector<std::int64_t>{4, 5, 8, 6, 0, 7, 1, 3, 2, 9}));
  EXPECT_EQ(epoch(34521, 10, 1), (std::vector<std::int64_t>{5, 6, 0, 9, 8, 7, 1, 3, 2, 4}));
}

TEST(Order, LargeDatasetsNeedNoTable) {
  const std::int64_t n = std::int64_t{3'000'000'000'000};
  const Order order(7, n);
  for (const std::int64_t p : {std::int64_t{0}, n - 1, n, 5 * n + 3}) {
    EXPECT_GE(order.at(p), 0);
    EXPECT_LT(order.at(p), n);
  }
  EXPECT_NE(order.at(0), order.at(n));
}

// Over many seeds, each instance is equally often at each position: chi-square with n - 1 = 6 degrees of
// freedom stays under 27.9 (p = 0.0001) for every position.
TEST(Order, PositionsAreUniform) {
  constexpr std::int64_t n = 7;
  constexpr int kSeeds = 7000;
  std::vector<std::vector<int>> count(n, std::vector<int>(n));
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const auto seen = epoch(seed, n, 0);
    for (std::size_t p = 0; p < n; ++p) ++count[p][static_cast<std::size_t>(seen[p])];
  }
  for (std::size_t p = 0; p < n; ++p) {
    double chi_square = 0;
    for (const int c : count[p]) chi_square += (c - kSeeds / n) * (c - kSeeds / n) / double{kSeeds / n};
    EXPECT_LT(chi_square, 27.9) << "position " << p;
  }
}

// Neighbours in the file are not neighbours in the order: the mean jump of a random permutation is n / 3.
TEST(Order, ScattersNeighbours) {
  constexpr std::int64_t n = 10'000;
  const auto seen = epoch(3, n, 0);
  double jump = 0;
  for (std::size_t i = 1; i < seen.size(); ++i) jump += static_cast<double>(std::abs(seen[i] - seen[i - 1]));
  EXPECT_NEAR(jump / (n - 1) / n, 1.0 / 3, 0.02);
}

TEST(Order, ErrorsSayWhatIsWrong) {
  expect_error([] { Order(0, 0); }, {"at least one instance"});
  expect_error([] { Order(0, 4).at(-1); }, {"position -1"});
}

}  // namespace
}  // namespace braid::data
