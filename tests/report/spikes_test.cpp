// Spikes and SpikeScore against cases worked out by hand, and the buckets of long curves.
#include "braid/report/spikes.h"

#include <gtest/gtest.h>

#include <cmath>

#include "braid/report/series.h"

namespace braid::test {
namespace {

using report::spike_statistics;

// Mean 0 and population deviation 1 over any even number of values.
std::vector<double> alternating(std::size_t count) {
  std::vector<double> v(count);
  for (std::size_t i = 0; i < count; ++i) v[i] = i % 2 == 0 ? 1 : -1;
  return v;
}

TEST(Spikes, SixDeviationsAboveTheMeanOfThe128Before) {
  for (const auto& [value, spikes, far] :
       {std::tuple{5.999, 0u, 0u}, {6.0, 0u, 1u}, {6.001, 1u, 1u}, {-6.0, 0u, 1u}, {-7.0, 0u, 1u}}) {
    auto values = alternating(128);
    values.push_back(value);
    const auto s = spike_statistics(values);
    EXPECT_EQ(s.judged, 1u);
    EXPECT_EQ(s.spikes.size(), spikes) << value;
    EXPECT_EQ(s.far, far) << value;
    EXPECT_EQ(s.score(), 100.0 * far);
  }
}

TEST(Spikes, NothingIsJudgedBeforeAWholeWindow) {
  auto values = alternating(127);
  values.push_back(1000);
  const auto s = spike_statistics(values);
  EXPECT_EQ(s.judged, 0u);
  EXPECT_TRUE(s.spikes.empty());
  EXPECT_TRUE(std::isnan(s.score()));
}

TEST(Spikes, ASpikeEntersTheHistoryAndMissingValuesDoNot) {
  auto values = alternating(128);
  values.push_back(NAN);
  values.push_back(100);
  values.push_back(100);  // the window holds the first 100: mean 99 / 128, deviation 8.84
  const auto s = spike_statistics(values);
  EXPECT_EQ(s.judged, 2u);
  ASSERT_EQ(s.spikes.size(), 2u);
  EXPECT_EQ(s.spikes[0].row, 129u);
  EXPECT_DOUBLE_EQ(s.spikes[0].deviation, 1);
  EXPECT_DOUBLE_EQ(s.spikes[1].mean, 99.0 / 128);
  EXPECT_DOUBLE_EQ(s.spikes[1].deviation, std::sqrt((127 + 10000) / 128.0 - 99.0 * 99 / (128.0 * 128)));
}

TEST(Spikes, AConstantHistoryHasNoDeviation) {
  std::vector<double> values(130, 2.0);
  values.push_back(2.5);
  const auto s = spike_statistics(values);
  EXPECT_EQ(s.judged, 3u);
  EXPECT_EQ(s.far, 1u);  // 2.0 again is no distance at all
  ASSERT_EQ(s.spikes.size(), 1u);
  EXPECT_EQ(s.spikes[0].deviation, 0);
}

TEST(Series, BucketsCoverEveryRowOnce) {
  for (const std::size_t rows : {0u, 1u, 7u, 100u, 1001u}) {
    const auto buckets = report::bucket_rows(rows, 100);
    EXPECT_EQ(buckets.size(), std::min<std::size_t>(rows, 100));
    std::size_t next = 0;
    for (const auto& [first, last] : buckets) {
      EXPECT_EQ(first, next);
      EXPECT_LT(first, last);
      next = last;
    }
    EXPECT_EQ(next, rows);
  }
}

TEST(Series, ABucketKeepsItsExtremes) {
  const auto v = report::summarize({1, NAN, -4, 9, 100}, {0, 4});
  EXPECT_EQ(v.min, -4);
  EXPECT_EQ(v.max, 9);
  EXPECT_EQ(v.mean, 2);
  EXPECT_TRUE(std::isnan(report::summarize({NAN, 1}, {0, 1}).mean));
}

}  // namespace
}  // namespace braid::test
