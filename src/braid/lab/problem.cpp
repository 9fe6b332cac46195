#include "braid/lab/problem.h"

#include <algorithm>
#include <array>

#include "braid/core/error.h"
#include "braid/lab/problems/interpreter.h"
#include "braid/lab/problems/problems.h"
#include "braid/lab/problems/program.h"

namespace braid::lab {
namespace {

const auto& all_problems() {
  static const std::array problems = {&swaps()};
  return problems;
}

// The text of some tokens, line ends as "\n".
std::string words_text(const Vocabulary& vocabulary, std::span<const std::int32_t> ids) {
  std::string text;
  for (const auto id : ids) text += (text.empty() ? "" : " ") + vocabulary.word(id);
  return text;
}

}  // namespace

const Vocabulary& Problem::vocabulary(Form form) const {
  return form == Form::code ? code::vocabulary() : tokens();
}

Example Problem::make(Form form, const Difficulty& difficulty, std::uint64_t seed,
                      std::uint64_t index) const {
  check(difficulty);
  Random random(seed, index);
  auto drawn = draw(difficulty, random);
  const auto meaning = translate(drawn.ids);
  std::vector<std::int64_t> values, places;
  for (const Line& line : meaning.lines) {
    if (line.answer < 0) continue;
    values.push_back((drawn.ids[static_cast<std::size_t>(line.answer)] - line.zero) / line.stride);
  }
  auto code_ids = write_code(meaning, values, places);
  auto code = code::text(code_ids) + "\n";
  if (form == Form::tokens) return {std::move(drawn.ids), std::move(drawn.answers), std::move(code)};
  return {std::move(code_ids), std::move(places), std::move(code)};
}

Program Problem::program(Form form, std::span<const std::int32_t> ids) const {
  const auto& words = vocabulary(form);
  require(!ids.empty() && ids[0] == Vocabulary::bos, "{}: a text begins with <bos>", name());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    require(ids[i] >= 0 && ids[i] < words.size(), "{}: token {}: the id {} is not in 0 … {}", name(), i,
            ids[i], words.size() - 1);
  }
  try {
    return form == Form::code ? read_code(ids) : translate(ids);
  } catch (const Error& error) {
    fail("{}: {}", name(), error.what());
  }
}

std::vector<std::int32_t> Problem::solve(Form form, std::span<const std::int32_t> ids) const {
  const auto meaning = program(form, ids);
  const auto& words = vocabulary(form);
  std::vector<std::int32_t> answers;
  Interpreter interpreter;
  for (const Line& line : meaning.lines) {
    try {
      const auto value = interpreter.run(meaning.line_words(line));
      if (!value) continue;
      const auto id = line.zero + *value * line.stride;
      require(id < words.size(), "the answer {} is not in the vocabulary", *value);
      answers.push_back(static_cast<std::int32_t>(id));
    } catch (const Error& error) {
      fail("{}: tokens {} to {}: {}", name(), line.first_token, line.end_token - 1, error.what());
    }
  }
  return answers;
}

std::string Problem::trace(Form form, std::span<const std::int32_t> ids) const {
  const auto answers = solve(form, ids);  // what cannot be solved fails here, before anything is written
  const auto meaning = program(form, ids);
  const auto& words = vocabulary(form);
  std::vector<std::string> left;
  std::size_t width = 0;
  for (const Line& line : meaning.lines) {
    const auto end = line.answer < 0 ? line.end_token : line.answer;
    left.push_back(form == Form::code
                       ? code::text(meaning.line_words(line))
                       : words_text(words, ids.subspan(static_cast<std::size_t>(line.first_token),
                                                       static_cast<std::size_t>(end - line.first_token))));
    if (left.back().size() <= 40) width = std::max(width, left.back().size());
  }
  std::string text;
  Interpreter interpreter;
  interpreter.record_calls();
  for (std::size_t i = 0, answered = 0; i < left.size(); ++i) {
    const Line& line = meaning.lines[i];
    interpreter.run(meaning.line_words(line));
    for (const auto& call : interpreter.calls()) text += fmt::format("{:{}}  {}\n", "", width, call);
    const auto result = line.answer < 0 ? interpreter.state() : "-> " + words.word(answers[answered++]);
    text += fmt::format("{:{}}  {}\n", left[i], width, result);
  }
  return text;
}

std::vector<std::string_view> problem_names() {
  std::vector<std::string_view> names;
  for (const auto* problem : all_problems()) names.push_back(problem->name());
  return names;
}

const Problem& problem_named(std::string_view name) {
  for (const auto* problem : all_problems()) {
    if (problem->name() == name) return *problem;
  }
  fail("there is no problem '{}': choose from {}", name, fmt::join(problem_names(), ", "));
}

}  // namespace braid::lab
