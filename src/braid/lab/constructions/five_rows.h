// Five variables in the state of one delta-rule head, and the keys that load, swap and read them.
//
// Keys come out of SiLU, which is hardly ever negative, so a swap of variables i and j reflects along
// (e_i + e_j) / √2: it exchanges their rows and turns both signs. Whoever reads a row squares it. A variable
// has two equal rows, so that the unit key of a swap is ½ in four places and nothing is ever rounded; two
// scratch rows make the unit key of a load ½ in four places as well.
#pragma once
#include "braid/lab/constructions/hand_built.h"

namespace braid::lab {

inline constexpr std::int64_t kVariables = 5;

// SiLU(x) = x to the last bit of f32 and bf16, and the square of the key's length, 4 · 32², hides the delta
// rule's epsilon (1e-6).
inline constexpr float kKey = 32;
// 2 σ(x) = 2 and 2 σ(-x) = 0 to the last bit; 2 σ(0) = 1.
inline constexpr float kSaturate = 96;
// What a load leaves in a variable's rows: half of what it writes.
inline constexpr float kWrite = 32;

struct VariablePair {
  std::int64_t i, j;  // i < j
};

// Rows of one head: two a variable, then scratch, then one that stays empty.
struct FiveRows {
  std::int64_t scratch;  // rows of scratch: 2 if one variable is loaded, 10 if all are
  std::int64_t count() const { return 2 * kVariables + scratch + 1; }
  std::int64_t empty() const { return 2 * kVariables + scratch; }

  // Row `first_row` of `key` is the head's first; a token with the feature gets the key.
  void load(const Matrix& key, std::int64_t first_row, std::int64_t coordinate, std::int64_t variable) const;
  static void swap(const Matrix& key, std::int64_t first_row, std::int64_t coordinate,
                   const VariablePair& pair);
  // The same along (e_i - e_j) / √2, which turns no signs: SiLU's least value, -0.278, at j, as much above 0
  // at i. So short a key feels the epsilon.
  static void swap_by_difference(const Matrix& key, std::int64_t first_row, std::int64_t coordinate,
                                 const VariablePair& pair);
  // y is the variable's row times √(1 / key_dim) · 2^-14: so small that the output norm's epsilon outweighs
  // it, and the norm becomes a constant factor. Nearly all of the unit query meets the empty row.
  void read(const Matrix& query, std::int64_t first_row, std::int64_t coordinate,
            std::int64_t variable) const;
};

// The words of the problems' token forms.
std::vector<VariablePair> variable_pairs();            // the ten swaps, in the order of their ids
std::string swap_word(const VariablePair& pair);       // "a,b"
std::string question_word(std::int64_t variable);      // "a?"
std::string bit_question_word(std::int64_t variable);  // "bits[a]?"
std::string answer_word(std::int64_t value);           // "=3"
std::string pointer_word(std::int64_t variable, std::int64_t place);  // "a=3"

}  // namespace braid::lab
