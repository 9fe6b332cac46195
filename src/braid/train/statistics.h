// Mean and spread of a few recorded values.
#pragma once
#include <span>

namespace braid::train {

struct Spread {
  double mean = 0, squares = 0;  // Σ (x − mean)²
};

// Of at least one value. Taken from the first value on, so that equal values have no spread at all.
inline Spread spread_of(std::span<const double> values) {
  double sum = 0;
  for (const double x : values) sum += x - values.front();
  Spread out{.mean = values.front() + sum / static_cast<double>(values.size())};
  for (const double x : values) out.squares += (x - out.mean) * (x - out.mean);
  return out;
}

}  // namespace braid::train
