#include "braid/lab/problems/five.h"

namespace braid::lab {

std::vector<std::string> value_words(std::int64_t count) {
  std::vector<std::string> words;
  for (std::int64_t i = 0; i < count; ++i) words.push_back(std::to_string(i));
  return words;
}

std::vector<std::string> question_words() { return {"a?", "b?", "c?", "d?", "e?"}; }

std::vector<std::string> swap_words() {
  std::vector<std::string> words;
  for (const auto& [first, second] : kSwapPairs) words.push_back({"abcde"[first], ',', "abcde"[second]});
  return words;
}

std::vector<std::string> words_of(std::vector<std::string> words,
                                  std::initializer_list<std::vector<std::string>> more) {
  for (const auto& list : more) words.insert(words.end(), list.begin(), list.end());
  return words;
}

void add_swap(Program& program, const SwapPair& pair) {
  const auto x = code::variable(static_cast<std::int64_t>(pair.first));
  const auto y = code::variable(static_cast<std::int64_t>(pair.second));
  program.add({x, code::comma, y, code::assign, y, code::comma, x});
}

}  // namespace braid::lab
