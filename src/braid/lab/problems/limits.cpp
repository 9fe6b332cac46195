#include "braid/core/error.h"
#include "braid/lab/problems/problems.h"

namespace braid::lab {
namespace {

void check_range(const Problem& problem, std::string_view setting, std::int64_t value, std::int64_t min,
                 std::int64_t max) {
  require(value >= min && value <= max, "{}: {} is {}, it goes from {} to {}", problem.name(), setting, value,
          min, max);
}

// A setting that is there may be 0, for its default.
void check_setting(const Problem& problem, std::string_view setting, bool there, std::int64_t value,
                   std::int64_t min, std::int64_t max) {
  if (value == 0) return;
  require(there, "{}: there is no {} in this problem, leave it 0", problem.name(), setting);
  check_range(problem, setting, value, min, max);
}

}  // namespace

void check_limits(const Problem& problem, const Difficulty& d, const Limits& limits) {
  check_range(problem, "n", d.n, 1, limits.n);
  check_setting(problem, "reveal_spacing", limits.reveals, d.reveal_spacing, 1, 1 << 20);
  check_setting(problem, "bits", limits.bits, d.bits, 1, kMaxBits);
  check_setting(problem, "modulus", limits.modulus, d.modulus, 2, kMaxModulus);
  check_setting(problem, "depth", limits.depth, d.depth, 1, kMaxDepth);
  check_setting(problem, "padding", limits.padding, d.padding, 1, kMaxPadding);
  require(d.reveals == Reveal::variable || limits.reveal_kind,
          "{}: there are no bits to reveal in this problem, reveal variables", problem.name());
}

}  // namespace braid::lab
