#include "table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace braid::app {
namespace {

// Three significant digits and a unit of `step`s.
std::string scaled(double value, double step, const std::vector<std::string>& units) {
  std::size_t unit = 0;
  while (std::abs(value) >= step && unit + 1 < units.size()) {
    value /= step;
    ++unit;
  }
  const int decimals = unit == 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return fmt::format("{:.{}f}{}", value, decimals, units[unit]);
}

}  // namespace

std::string Table::text() const {
  std::vector<std::size_t> widths(columns_);
  for (const auto& row : rows_) {
    for (std::size_t c = 0; c < columns_; ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string out;
  for (const auto& row : rows_) {
    out += fmt::format("  {:<{}}", row[0], widths[0]);
    for (std::size_t c = 1; c < columns_; ++c) out += fmt::format("  {:>{}}", row[c], widths[c]);
    out += "\n";
  }
  return out;
}

std::string with_commas(long long value) {
  std::string digits = std::to_string(value);
  for (auto i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > (value < 0 ? 1 : 0); i -= 3) {
    digits.insert(static_cast<std::size_t>(i), 1, ',');
  }
  return digits;
}

std::string binary_size(double bytes) { return scaled(bytes, 1024, {" B", " KiB", " MiB", " GiB", " TiB"}); }
std::string decimal_size(double value) { return scaled(value, 1000, {"", " K", " M", " G", " T", " P"}); }

}  // namespace braid::app
