// Barrington's theorem for width 5: a formula's value as a product of permutations, one conditional
// transposition after the other (Barrington 1989; paper, theorem 3).
#pragma once
#include <cstdint>
#include <vector>

namespace braid::lab {

// Transposes places i and j of five if the formula's token number `token` is a leaf 1 or an OR gate.
struct Instruction {
  std::int64_t token;  // of the formula in Polish notation, from 0
  std::int64_t i, j;
};

struct BranchingProgram {
  std::vector<Instruction> instructions;
  // All instructions together leave place 0 where it is if the formula is false, and bring what was at 0 to
  // `true_place` if it is true.
  std::int64_t true_place;
};

// Tokens of a complete formula of two-sided gates: 2^(depth + 1) - 1.
constexpr std::int64_t formula_tokens(std::int64_t depth) { return (std::int64_t{2} << depth) - 1; }

// For every complete formula of ANDs and ORs of this depth, whatever its gates and leaves are:
// T(0) = 4 instructions, T(d + 1) = 4 T(d) + 20.
BranchingProgram branching_program(std::int64_t depth);

}  // namespace braid::lab
