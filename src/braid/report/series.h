// Columns of numbers over training steps.
#pragma once
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace braid::report {

// Rows by rising step. NaN stands where a line had no such value.
struct Series {
  std::vector<std::int64_t> step;
  std::vector<double> tokens;  // trained on by then
  std::map<std::string, std::vector<double>, std::less<>> columns;

  std::size_t rows() const { return step.size(); }
  // Null when no line had it.
  const std::vector<double>* find(std::string_view column) const;
};

// Gathers lines in the order of the file. A step written twice is one row, in which the later value counts.
class SeriesBuilder {
 public:
  void begin_row(std::int64_t step, double tokens);
  void put(const std::string& column, double value);  // into the row begun last
  Series finish();

 private:
  Series series_;
  bool rising_ = true;  // no step so far was at or before the one above it
};

// Row numbers [first, last) of each of at most `buckets` buckets of nearly equal size.
std::vector<std::pair<std::size_t, std::size_t>> bucket_rows(std::size_t rows, std::size_t buckets);

// What a bucket says of a column: NaN where none of its rows has a value.
struct BucketValues {
  double min, max, mean;
};
BucketValues summarize(const std::vector<double>& column, std::pair<std::size_t, std::size_t> rows);

}  // namespace braid::report
