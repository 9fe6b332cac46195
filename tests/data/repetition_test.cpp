#include "braid/data/repetition.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>

#include "braid/core/random.h"

namespace braid::data {
namespace {

using Ids = std::vector<TokenId>;

Ids ids_of(std::string_view digits) {
  Ids ids;
  for (const char digit : digits) ids.push_back(digit - '0');
  return ids;
}

std::vector<Repetition> find(std::string_view digits, std::int64_t period) {
  return find_repetitions(ids_of(digits), {.min_period = period, .max_period = period});
}

using Runs = std::vector<Repetition>;

TEST(Repetition, HandComputed) {
  EXPECT_EQ(find("5000007", 1), (Runs{{1, 6, 1}}));
  EXPECT_EQ(find("5000007", 1)[0].times(), 5);
  EXPECT_EQ(find("1223334444", 1), (Runs{{3, 6, 1}, {6, 10, 1}}));  // 22 is too short; up to the end
  EXPECT_EQ(find("3334", 1), (Runs{{0, 3, 1}}));                    // from the start
  EXPECT_EQ(find("010101", 2), (Runs{{0, 6, 2}}));
  EXPECT_EQ(find("01010", 2), (Runs{}));  // two repeats and a half
  // Rows of 3 do not line up with the run, 123 from 1 to 12: rows 450|123|123|120 would show two repeats.
  EXPECT_EQ(find("51231231230", 3), (Runs{{1, 10, 3}}));
  // Extended on both partial edges: 3·12312312·1 repeats from 2 to 11, three times.
  EXPECT_EQ(find("99312312312999", 3), (Runs{{2, 11, 3}}));
  EXPECT_EQ(find("111111", 2), (Runs{{0, 6, 2}}));  // a shorter period is one of 2 as well
  EXPECT_EQ(find("", 1), (Runs{}));
  EXPECT_EQ(find("1", 1), (Runs{}));
  EXPECT_EQ(find("12", 5), (Runs{}));
}

// The rows of the paper's description, literally: lay out, compare, group equal rows, extend into the partial
// ones beside them. OLMo-core pads the end with at least one value that no token has.
Runs by_rows(const Ids& ids, std::int64_t period) {
  const auto size = static_cast<std::int64_t>(ids.size());
  if (period > size / 3) return {};
  const std::int64_t rows = size / period + 1;
  const auto equal = [&](std::int64_t row, std::int64_t column) {
    const std::int64_t i = row * period + column;
    return row > 0 && i < size &&
           ids[static_cast<std::size_t>(i)] == ids[static_cast<std::size_t>(i - period)];
  };
  const auto whole = [&](std::int64_t row) {
    for (std::int64_t c = 0; c < period; ++c) {
      if (!equal(row, c)) return false;
    }
    return true;
  };
  Runs found;
  for (std::int64_t row = 1; row < rows; ++row) {
    if (!whole(row)) continue;
    const std::int64_t first = row;
    while (row + 1 < rows && whole(row + 1)) ++row;
    std::int64_t before = 0, after = 0;
    while (before < period && equal(first - 1, period - 1 - before)) ++before;
    while (row + 1 < rows && after < period && equal(row + 1, after)) ++after;
    const Repetition run{(first - 1) * period - before, (row + 1) * period + after, period};
    if (run.times() > 2) found.push_back(run);
  }
  return found;
}

TEST(Repetition, AgreesWithTheRowsOfThePaper) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Random random(seed, 3);
    Ids ids;
    const auto draw = [&](std::uint64_t n) { return static_cast<TokenId>(random.next_u64() % n); };
    while (ids.size() < 60) {  // noise, and stretches of some period
      const auto period = static_cast<std::size_t>(1 + draw(6)),
                 copies = static_cast<std::size_t>(1 + draw(5));
      Ids unit(period);
      for (TokenId& id : unit) id = draw(2);
      for (std::size_t i = 0; i < period * copies; ++i) ids.push_back(unit[i % period]);
    }
    ids.resize(static_cast<std::size_t>(1 + draw(60)));
    Runs want;
    for (std::int64_t period = 1; period <= 13; ++period)
      std::ranges::copy(by_rows(ids, period), std::back_inserter(want));
    EXPECT_EQ(find_repetitions(ids, {}), want) << "seed " << seed;
  }
}

// 32 repeats are too many, 31 are not; a repeat that is not whole does not count.
TEST(Repetition, TheFilterCountsWholeRepeats) {
  const auto repeated = [](std::int64_t period, std::int64_t tokens) {
    Ids ids{100, 101, 102};
    for (std::int64_t i = 0; i < tokens; ++i) ids.push_back(static_cast<TokenId>(i % period));
    ids.push_back(103);
    return ids;
  };
  for (std::int64_t period = 1; period <= 13; ++period) {
    EXPECT_FALSE(is_repetitive(repeated(period, 32 * period - 1), {})) << period;
    EXPECT_TRUE(is_repetitive(repeated(period, 32 * period), {})) << period;
  }
  EXPECT_FALSE(is_repetitive(repeated(14, 40 * 14), {}));
  EXPECT_TRUE(is_repetitive(repeated(14, 40 * 14), {.max_period = 14}));
  EXPECT_TRUE(is_repetitive(repeated(2, 8), {.max_repetitions = 4}));
  EXPECT_FALSE(is_repetitive(repeated(2, 7), {.max_repetitions = 4}));
  EXPECT_FALSE(is_repetitive({}, {}));
}

}  // namespace
}  // namespace braid::data
