#include "braid/data/chat_exercises.h"

#include <algorithm>
#include <cctype>
#include <span>

namespace braid::data {
namespace {

using Words = std::vector<std::string>;

std::string joined(const Words& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

Words first_letters(const Words& words) {
  Words letters;
  for (const auto& word : words) letters.push_back(word.substr(0, 1));
  return letters;
}

ExerciseItem copying(const Words& words) {
  const auto letters = joined(first_letters(words));
  return {Exercise::copy, "copy: " + letters, letters};
}

ExerciseItem extraction(const Words& words, Exercise which) {
  const bool first = which == Exercise::first;
  return {which, (first ? "first word: " : "last word: ") + joined(words),
          first ? words.front() : words.back()};
}

// a b c a b → c; `more` letters are shown beyond the first round.
ExerciseItem continuation(const Words& words, std::size_t more) {
  const auto turns = first_letters(words);
  Words shown;
  for (std::size_t i = 0; i < turns.size() + more; ++i) shown.push_back(turns[i % turns.size()]);
  return {Exercise::next, "next letter: " + joined(shown), turns[more % turns.size()]};
}

ExerciseItem counting(const Words& words) {
  return {Exercise::count, "count words: " + joined(words), std::to_string(words.size())};
}

}  // namespace

std::string_view name_of(Exercise exercise) {
  constexpr std::string_view names[] = {"copy", "first", "last", "next", "count"};
  return names[static_cast<std::size_t>(exercise)];
}

std::string in_a_sentence(const ExerciseItem& item) {
  constexpr std::string_view leads[] = {"here it is: ", "the first word is ", "the last word is ",
                                        "the next letter is ", "the number is "};
  return std::string(leads[static_cast<std::size_t>(item.exercise)]) + item.answer;
}

std::vector<std::string> plain_words(std::string_view text) {
  Words words;
  std::string word;
  const auto finish = [&] {
    if (word.size() >= 2 && word.size() <= 8) words.push_back(word);
    word.clear();
  };
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (std::isalpha(u) != 0 && u < 128) {
      word += static_cast<char>(std::tolower(u));
    } else {
      finish();
    }
  }
  finish();
  return words;
}

ExerciseItem make_exercise(const Words& words, Random& random) {
  const auto exercise = static_cast<Exercise>(random.below(kExercises));
  const auto some = [&](std::uint64_t least, std::uint64_t most) {
    const auto count = least + random.below(most - least + 1);
    const auto first = words.begin() + static_cast<std::ptrdiff_t>(random.below(words.size() - count + 1));
    return Words(first, first + static_cast<std::ptrdiff_t>(count));
  };
  switch (exercise) {
    case Exercise::copy:
      return copying(some(2, 8));
    case Exercise::first:
    case Exercise::last:
      return extraction(some(2, 5), exercise);
    case Exercise::next: {
      const auto turns = some(2, 4);
      return continuation(turns, turns.size() + random.below(3));
    }
    case Exercise::count:
      return counting(some(1, 12));
  }
  return {};
}

}  // namespace braid::data
