// Aligned plain-text tables: the first column to the left, numbers to the right.
#pragma once
#include <string>
#include <vector>

namespace braid::app {

class Table {
 public:
  explicit Table(std::vector<std::string> header) : columns_(header.size()), rows_{std::move(header)} {}
  void add(std::vector<std::string> row) {
    row.resize(columns_);
    rows_.push_back(std::move(row));
  }
  std::string text() const;  // lines, each indented by two spaces

 private:
  std::size_t columns_;
  std::vector<std::vector<std::string>> rows_;
};

std::string with_commas(long long value);  // "7,430,870,688"
std::string binary_size(double bytes);     // "1.05 MiB"
std::string decimal_size(double value);    // "14.1 G"

}  // namespace braid::app
