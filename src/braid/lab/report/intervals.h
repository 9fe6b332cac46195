// How far a measured share of right answers may be from the true one.
#pragma once
#include <cstdint>

namespace braid::lab {

struct Interval {
  double low = 0, high = 1;
  bool contains(double x) const { return low <= x && x <= high; }
};

// Wilson's score interval of `correct` out of `samples`, 95 % (Wilson 1927).
Interval wilson(std::int64_t correct, std::int64_t samples);
// Of the difference of two shares, a − b, 95 % (Newcombe 1998, method 10: from Wilson's intervals).
Interval difference(std::int64_t correct_a, std::int64_t samples_a, std::int64_t correct_b,
                    std::int64_t samples_b);

}  // namespace braid::lab
