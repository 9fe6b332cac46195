// The problems, one function each, and what their settings share.
#pragma once
#include "braid/lab/problem.h"

namespace braid::lab {

const Problem& recall();
const Problem& swaps();
const Problem& a5();
const Problem& parity();
const Problem& counter();
const Problem& state_based_recall();
const Problem& formula();
const Problem& padded_formula();
const Problem& mixed();

// Which settings of Difficulty a problem has besides n, and its limits.
struct Limits {
  std::int64_t n = 4096;
  bool reveals = false, bits = false, modulus = false, depth = false, padding = false, reveal_kind = false;
};
inline constexpr std::int64_t kMaxBits = 1024;  // one word for each index
inline constexpr std::int64_t kMaxModulus = 64;
inline constexpr std::int64_t kMaxDepth = 64;
inline constexpr std::int64_t kMaxPadding = 65536;

// The checks that follow from limits alone.
void check_limits(const Problem& problem, const Difficulty& difficulty, const Limits& limits);

}  // namespace braid::lab
