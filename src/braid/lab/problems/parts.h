// What the problems share: swaps of the five variables a … e, questions in turn, words, texts under
// construction.
#pragma once
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "braid/lab/problem.h"
#include "braid/lab/problems/program.h"

namespace braid::lab {

struct SwapPair {
  std::size_t first, second;  // of the variables, first < second
};
inline constexpr std::array<SwapPair, 10> kSwapPairs = {
    {{0, 1}, {0, 2}, {0, 3}, {0, 4}, {1, 2}, {1, 3}, {1, 4}, {2, 3}, {2, 4}, {3, 4}}};

// Which of `variables` is asked after an action: each in turn. After the last action none, since the final
// question follows.
class RevealTurns {
 public:
  explicit RevealTurns(const Difficulty& difficulty, std::size_t variables = 5)
      : spacing_(difficulty.reveal_spacing), actions_(difficulty.n), variables_(variables) {}
  std::optional<std::size_t> after(std::int64_t action) {  // counted from 1
    if (spacing_ == 0 || action % spacing_ != 0 || action >= actions_) return std::nullopt;
    return turn_++ % variables_;
  }

 private:
  std::int64_t spacing_, actions_;
  std::size_t variables_, turn_ = 0;
};

// Lists of words, joined behind <pad> and <bos>.
using Words = std::vector<std::string>;
Words vocabulary_words(std::initializer_list<Words> parts);
Words numbered(std::string_view prefix, std::int64_t count);  // "=0", "=1" …
Words questions();                                            // "a?" … "e?"
Words swap_words();                                           // "a,b" … as kSwapPairs

void add_question(ProblemTokens& text, std::int32_t question, std::int32_t answer);
// Translates the question at the reader, whose words `asked` come before "==": `assert asked ==`.
Line& translate_question(Program& program, TokenReader& reader, std::initializer_list<std::int32_t> asked);
// a, b, c, d, e
void add_variables(Program& program);
// a, b = b, a
void add_swap(Program& program, const SwapPair& pair);
// bits = [0, 1, 1] of the reader's tokens `zero` and `zero` + 1, at least one and at most kMaxBits; how many.
std::int64_t read_bits(Program& program, TokenReader& reader, std::int32_t zero);

}  // namespace braid::lab
