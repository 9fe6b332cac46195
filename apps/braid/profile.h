// A backend that times every op of another one.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "braid/ops/backend.h"

namespace braid::app {

struct OpTime {
  std::string name;
  double seconds = 0;
  std::int64_t calls = 0;
};

// The same ops and results as `inner`, whose state it shares. Records nothing.
Backend profiled(const Backend& inner);
// Slowest first; ops that were never called are left out. Times count from the last reset.
std::vector<OpTime> op_times(const Backend& profiled);
void reset_op_times(const Backend& profiled);

}  // namespace braid::app
