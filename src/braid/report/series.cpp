#include "braid/report/series.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace braid::report {
namespace {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

// Sorted by step, keeping the order of the file within one; then rows of one step are merged from above.
Series sorted(const Series& from) {
  std::vector<std::size_t> order(from.rows());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t row) { return from.step[row]; });
  Series to;
  std::vector<std::size_t> row_of(from.rows());
  for (const auto row : order) {
    if (to.step.empty() || to.step.back() != from.step[row]) {
      to.step.push_back(from.step[row]);
      to.tokens.push_back(kMissing);
    }
    row_of[row] = to.rows() - 1;
    if (!std::isnan(from.tokens[row])) to.tokens.back() = from.tokens[row];
  }
  for (const auto& [name, values] : from.columns) {
    auto& column = to.columns[name];
    column.assign(to.rows(), kMissing);
    for (std::size_t row = 0; row < from.rows(); ++row) {  // the order of the file
      if (!std::isnan(values[row])) column[row_of[row]] = values[row];
    }
  }
  return to;
}

}  // namespace

const std::vector<double>* Series::find(std::string_view column) const {
  const auto found = columns.find(column);
  return found == columns.end() ? nullptr : &found->second;
}

void SeriesBuilder::begin_row(std::int64_t step, double tokens) {
  rising_ = rising_ && (series_.step.empty() || step > series_.step.back());
  series_.step.push_back(step);
  series_.tokens.push_back(tokens);
}

void SeriesBuilder::put(const std::string& column, double value) {
  auto& values = series_.columns[column];
  values.resize(series_.rows(), kMissing);
  values.back() = value;
}

Series SeriesBuilder::finish() {
  for (auto& [name, values] : series_.columns) values.resize(series_.rows(), kMissing);
  return rising_ ? std::move(series_) : sorted(series_);
}

std::vector<std::pair<std::size_t, std::size_t>> bucket_rows(std::size_t rows, std::size_t buckets) {
  const auto count = std::min(rows, buckets);
  std::vector<std::pair<std::size_t, std::size_t>> out;
  out.reserve(count);
  for (std::size_t i = 0; i < count; ++i) out.emplace_back(i * rows / count, (i + 1) * rows / count);
  return out;
}

BucketValues summarize(const std::vector<double>& column, std::pair<std::size_t, std::size_t> rows) {
  BucketValues out{kMissing, kMissing, kMissing};
  double sum = 0;
  std::size_t count = 0;
  for (auto row = rows.first; row < rows.second; ++row) {
    const double v = column[row];
    if (std::isnan(v)) continue;
    out.min = count == 0 ? v : std::min(out.min, v);
    out.max = count == 0 ? v : std::max(out.max, v);
    sum += v;
    ++count;
  }
  if (count != 0) out.mean = sum / static_cast<double>(count);
  return out;
}

}  // namespace braid::report
