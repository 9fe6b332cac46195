// Small exercises made from documents by rule, so that success can be counted: what the quick recipes teach
// after pretraining.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "braid/core/random.h"

namespace braid::data {

// Each is about a few words of running text, or the letters that they begin with:
enum class Exercise : std::uint8_t {
  copy,   // repeat the letters
  first,  // extraction: the first word
  last,   // extraction: the last word
  next,   // continuation: letters that repeat in turn, what comes next
  count,  // counting: how many words
};
inline constexpr int kExercises = 5;
std::string_view name_of(Exercise exercise);

struct ExerciseItem {
  Exercise exercise = Exercise::copy;
  std::string question, answer;
};

// The same answer in more words: "the last word is whale".
std::string in_a_sentence(const ExerciseItem& item);

// Plain words (ASCII letters, 2 to 8 of them, in lower case) of a text, in order.
std::vector<std::string> plain_words(std::string_view text);

// One exercise about `words`, which has at least 12; a pure function of the words and the random state.
ExerciseItem make_exercise(const std::vector<std::string>& words, Random& random);

}  // namespace braid::data
