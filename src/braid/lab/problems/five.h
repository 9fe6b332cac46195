// The five variables a … e: swaps of two, questions in turn, and the words for them.
#pragma once
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "braid/lab/problem.h"
#include "braid/lab/problems/program.h"

namespace braid::lab {

struct SwapPair {
  std::size_t first, second;  // of the variables, first < second
};
inline constexpr std::array<SwapPair, 10> kSwapPairs = {
    {{0, 1}, {0, 2}, {0, 3}, {0, 4}, {1, 2}, {1, 3}, {1, 4}, {2, 3}, {2, 4}, {3, 4}}};

// Which variable is asked after an action: a, b, … e, a … in turn. After the last action nothing, since the
// final question follows.
class RevealTurns {
 public:
  explicit RevealTurns(const Difficulty& difficulty)
      : spacing_(difficulty.reveal_spacing), actions_(difficulty.n) {}
  std::optional<std::size_t> after(std::int64_t action) {  // counted from 1
    if (spacing_ == 0 || action % spacing_ != 0 || action >= actions_) return std::nullopt;
    return turn_++ % 5;
  }

 private:
  std::int64_t spacing_, actions_;
  std::size_t turn_ = 0;
};

std::vector<std::string> value_words(std::int64_t count);  // "0", "1" …
std::vector<std::string> question_words();                 // "a?" … "e?"
std::vector<std::string> swap_words();                     // "a,b" … as kSwapPairs
std::vector<std::string> words_of(std::vector<std::string> words,
                                  std::initializer_list<std::vector<std::string>> more);

void add_swap(Program& program, const SwapPair& pair);  // a, b = b, a

}  // namespace braid::lab
