#include "braid/lab/problems/code_words.h"

#include "braid/core/error.h"

namespace braid::lab::code {
namespace {

std::vector<std::string> words() {
  std::vector<std::string> words = {"<pad>",    "<bos>",  "\n",   "a",   "b",    "c",      "d",     "e",
                                    "bits",     "=",      "==",   ",",   "[",    "]",      "(",     ")",
                                    "^=",       "+",      "%",    ":",   "if",   "assert", "range", "from",
                                    "operator", "import", "and_", "or_", "not_", "#",      "."};
  require(words.size() == zero, "code vocabulary: the words and their ids differ in number");
  for (std::int64_t i = 0; i < kIntegers; ++i) words.push_back(std::to_string(i));
  return words;
}

bool is_function(std::int32_t word) {
  return word == range || word == and_function || word == or_function || word == not_function;
}

bool space_between(std::int32_t left, std::int32_t right) {
  if (left == line_end || right == line_end || left == open || left == open_bracket) return false;
  if (right == open) return !is_function(left);
  if (right == open_bracket) return left != bits;
  return right != comma && right != close && right != close_bracket && right != colon;
}

}  // namespace

const Vocabulary& vocabulary() {
  static const Vocabulary vocabulary(words());
  return vocabulary;
}

std::string text(std::span<const std::int32_t> ids) {
  std::string text;
  std::int32_t before = line_end;
  for (const auto id : ids) {
    if (id == Vocabulary::pad || id == Vocabulary::bos) continue;
    if (space_between(before, id)) text += ' ';
    text += vocabulary().word(id);
    before = id;
  }
  return text;
}

}  // namespace braid::lab::code
