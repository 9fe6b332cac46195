#include "braid/lab/report/intervals.h"

#include <algorithm>
#include <cmath>

namespace braid::lab {

Interval wilson(std::int64_t correct, std::int64_t samples) {
  constexpr double z = 1.959963984540054;  // 97.5 % of a normal lie below
  const auto n = static_cast<double>(samples);
  const double p = static_cast<double>(correct) / n, scale = 1 / (1 + z * z / n);
  const double centre = scale * (p + z * z / (2 * n));
  const double half = scale * z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  // Exact at the ends, whatever rounding says.
  return {correct == 0 ? 0 : std::max(0.0, centre - half),
          correct == samples ? 1 : std::min(1.0, centre + half)};
}

Interval difference(std::int64_t correct_a, std::int64_t samples_a, std::int64_t correct_b,
                    std::int64_t samples_b) {
  const double a = static_cast<double>(correct_a) / static_cast<double>(samples_a),
               b = static_cast<double>(correct_b) / static_cast<double>(samples_b);
  const auto of_a = wilson(correct_a, samples_a), of_b = wilson(correct_b, samples_b);
  return {a - b - std::hypot(a - of_a.low, of_b.high - b), a - b + std::hypot(of_a.high - a, b - of_b.low)};
}

}  // namespace braid::lab
