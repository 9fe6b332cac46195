// Texts by their words, and settings that every problem takes.
#pragma once
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "braid/lab/problem.h"

namespace braid::lab {

inline std::vector<std::int32_t> ids_of(const Problem& problem, Form form, std::string_view words) {
  std::vector<std::int32_t> ids;
  for (std::size_t begin = 0; begin < words.size();) {
    const auto end = std::min(words.find(' ', begin), words.size());
    const auto word = words.substr(begin, end - begin);
    ids.push_back(problem.vocabulary(form).id(word == "\\n" ? "\n" : word));
    begin = end + 1;
  }
  return ids;
}

inline std::string words_of(const Problem& problem, Form form, const std::vector<std::int32_t>& ids) {
  std::string text;
  for (const auto id : ids) text += (text.empty() ? "" : " ") + problem.vocabulary(form).word(id);
  return text;
}

// The answers of a text in token form, as words: "=3 =1".
inline std::string solved(std::string_view problem_name, std::string_view words, Form form = Form::tokens) {
  const auto& problem = problem_named(problem_name);
  return words_of(problem, form, problem.solve(form, ids_of(problem, form, words)));
}

inline std::vector<std::int32_t> answers_of(const Example& example) {
  std::vector<std::int32_t> answers;
  for (const auto place : example.answers) answers.push_back(example.ids[static_cast<std::size_t>(place)]);
  return answers;
}

inline bool has_reveals(std::string_view name) {
  return name != "recall" && name != "formula" && name != "padded_formula";
}

}  // namespace braid::lab
