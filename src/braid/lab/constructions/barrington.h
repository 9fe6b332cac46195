// Barrington's theorem for width 5: a formula's value as a product of permutations, one conditional
// transposition after the other (Barrington 1989; paper, theorem 3).
#pragma once
#include <cstdint>
#include <vector>

namespace braid::lab {

// What an instruction depends on. Each node of the tree says two things, both no where the formula has no
// such node: whether what it gives is turned (a leaf 1, an OR; the other way round behind an odd number of
// `!`), and whether its operands are (an OR: it is NOT (NOT x AND NOT y)).
enum class Turned : std::uint8_t { output, operands };

// Transposes places i and j of five if this is turned.
struct Instruction {
  std::int64_t node;  // of the complete tree in Polish notation, from 0
  Turned turned;
  std::int64_t i, j;
};

struct BranchingProgram {
  std::vector<Instruction> instructions;
  // All instructions together leave place 0 where it is if the formula is false, and bring what was at 0 to
  // `true_place` if it is true.
  std::int64_t true_place;
};

// Nodes of the complete binary tree: 2^(depth + 1) - 1.
constexpr std::int64_t tree_nodes(std::int64_t depth) { return (std::int64_t{2} << depth) - 1; }

// For every formula of at most this depth, whatever its shape, gates and leaves are: a leaf is an AND of two
// nodes that are not there, turned if it is 1. T(0) = 4 instructions, T(d + 1) = 4 T(d) + 20.
BranchingProgram branching_program(std::int64_t depth);

}  // namespace braid::lab
