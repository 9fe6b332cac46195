// The problems, one function each, and what their settings share.
#pragma once
#include "braid/lab/problem.h"

namespace braid::lab {

const Problem& swaps();

// Which settings of Difficulty a problem has besides n, and its limits.
struct Limits {
  std::int64_t n = 4096;
  bool reveals = false, bits = false, modulus = false, depth = false, padding = false, reveal_kind = false;
};
inline constexpr std::int64_t kMaxBits = 1024;  // one word for each index

// The checks that follow from limits alone.
void check_limits(const Problem& problem, const Difficulty& difficulty, const Limits& limits);

}  // namespace braid::lab
