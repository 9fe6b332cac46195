#include "braid/lab/problem.h"

#include <algorithm>
#include <array>

#include "braid/core/error.h"
#include "braid/io/quote.h"
#include "braid/lab/problems/interpreter.h"
#include "braid/lab/problems/problems.h"
#include "braid/lab/problems/program.h"

namespace braid::lab {
namespace {

const auto& all_problems() {
  static const std::array problems = {&recall(),  &swaps(),          &a5(),
                                      &parity(),  &counter(),        &state_based_recall(),
                                      &formula(), &padded_formula(), &mixed()};
  return problems;
}

}  // namespace

const Vocabulary& Problem::vocabulary(Form form) const {
  return form == Form::code ? code::vocabulary() : tokens();
}

std::int64_t Problem::vocabulary_size(Form form, const Difficulty& difficulty) const {
  check(difficulty);
  return words_needed(form, difficulty);
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

// The action or question of a line, in the words of its form.
std::string Problem::line_text(Form form, const Program& program, const Line& line,
                               std::span<const std::int32_t> ids) const {
  if (form == Form::code) return code::text(program.line_words(line));
  const auto end = line.answer < 0 ? line.end_token : line.answer;
  std::string text;
  for (auto i = line.first_token; i < end; ++i) {
    text += (text.empty() ? "" : " ") + tokens().word(ids[static_cast<std::size_t>(i)]);
  }
  return text;
}

std::string Problem::trace(Form form, std::span<const std::int32_t> ids) const {
  constexpr std::size_t kWidth = 40;      // of the actions' column; longer ones stick out
  const auto answers = solve(form, ids);  // what cannot be solved fails here
  const auto meaning = program(form, ids);
  std::vector<std::string> actions;
  std::size_t width = 0;
  for (const Line& line : meaning.lines) {
    actions.push_back(line_text(form, meaning, line, ids));
    if (actions.back().size() <= kWidth) width = std::max(width, actions.back().size());
  }
  std::string text, bits;
  Interpreter interpreter;
  interpreter.record_calls();
  for (std::size_t i = 0, answered = 0; i < actions.size(); ++i) {
    interpreter.run(meaning.line_words(meaning.lines[i]));
    for (const auto& call : interpreter.calls()) text += fmt::format("{:{}}  {}\n", "", width, call);
    std::string result = interpreter.variables();
    if (meaning.lines[i].answer >= 0) result = "-> " + vocabulary(form).word(answers[answered++]);
    // A list that stays as it is needs to be seen once.
    if (auto now = interpreter.bits(); now != bits) {
      bits = std::move(now);
      result += (result.empty() ? "bits=" : " bits=") + bits;
    }
    text += result.empty() ? actions[i] + "\n" : fmt::format("{:{}}  {}\n", actions[i], width, result);
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
  fail("there is no problem {}: choose from {}", io::in_quotes(name), fmt::join(problem_names(), ", "));
}

}  // namespace braid::lab
