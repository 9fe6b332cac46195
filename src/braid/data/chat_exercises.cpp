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

// Another of the words than the one at `index`; a made-up one where all are the same.
std::string other_word(const Words& words, std::size_t index, Random& random) {
  Words others;
  for (const auto& word : words) {
    if (word != words[index]) others.push_back(word);
  }
  return others.empty() ? "none" : others[random.below(others.size())];
}

ExerciseItem copy_of(const Words& words, Random& random) {
  Words wrong = words;
  std::swap(wrong[0], wrong[1 + random.below(wrong.size() - 1)]);
  if (wrong == words) wrong.pop_back();
  return {Exercise::copy, "copy: " + joined(words), joined(words), joined(wrong)};
}

ExerciseItem extraction(const Words& words, bool first, Random& random) {
  const std::size_t index = first ? 0 : words.size() - 1;
  return {first ? Exercise::first : Exercise::last, (first ? "first word: " : "last word: ") + joined(words),
          words[index], other_word(words, index, random)};
}

// a b a b a → b
ExerciseItem continuation(const Words& words, Random& random) {
  const Words turns(words.begin(), words.begin() + 2);
  Words shown;
  const auto length = 3 + random.below(3);
  for (std::uint64_t i = 0; i < length; ++i) shown.push_back(turns[i % 2]);
  const auto& answer = turns[length % 2];
  const auto& wrong = turns[(length + 1) % 2];
  return {Exercise::next, "next word: " + joined(shown), answer, wrong == answer ? "none" : wrong};
}

ExerciseItem counting(const Words& words, Random& random) {
  const auto count = words.size(), wrong = random.below(2) == 0 ? count + 1 : count - 1;
  return {Exercise::count, "count words: " + joined(words), std::to_string(count), std::to_string(wrong)};
}

}  // namespace

std::string_view name_of(Exercise exercise) {
  constexpr std::string_view names[] = {"copy", "first", "last", "next", "count"};
  return names[static_cast<std::size_t>(exercise)];
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
  const auto count = 2 + random.below(4);  // 2 to 5 words
  const auto first = random.below(words.size() - count);
  const Words some(words.begin() + static_cast<std::ptrdiff_t>(first),
                   words.begin() + static_cast<std::ptrdiff_t>(first + count));
  switch (exercise) {
    case Exercise::copy:
      return copy_of(some, random);
    case Exercise::first:
    case Exercise::last:
      return extraction(some, exercise == Exercise::first, random);
    case Exercise::next:
      return continuation(some, random);
    case Exercise::count:
      return counting(some, random);
  }
  return {};
}

}  // namespace braid::data
