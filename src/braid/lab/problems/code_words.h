// The vocabulary of the code form, one for all problems, and how its words are set as Python text.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "braid/lab/vocabulary.h"

namespace braid::lab::code {

inline constexpr std::int64_t kIntegers = 1025;  // words "0" to "1024"

// Ids of words, in the vocabulary's order; integers follow.
enum Word : std::int32_t {
  line_end = 2,  // "\n"
  a,             // the five variables, in order
  b,
  c,
  d,
  e,
  bits,
  assign,  // =
  equals,  // ==
  comma,
  open_bracket,
  close_bracket,
  open,
  close,
  flip,  // ^=
  plus,
  modulo,  // %
  colon,
  if_word,
  assert_word,
  range,
  from,
  operator_module,
  import,
  and_function,
  or_function,
  not_function,
  comment,  // #
  dot,
  zero,  // the first integer
};

const Vocabulary& vocabulary();
constexpr std::int32_t variable(std::int64_t v) { return a + static_cast<std::int32_t>(v); }
constexpr std::int32_t integer(std::int64_t value) { return zero + static_cast<std::int32_t>(value); }

// Words as a person would type them: "bits[a] == 1". Ids are in the vocabulary; <bos> and <pad> have no text.
std::string text(std::span<const std::int32_t> words);

}  // namespace braid::lab::code
