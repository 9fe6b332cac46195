#include <nlohmann/json.hpp>

#include "braid/lab/problem.h"
#include "lab.h"

namespace braid::app {
namespace {

struct Options {
  std::string problem, form, reveals = "variable";
  lab::Difficulty difficulty;
  std::uint64_t seed = 0;
  std::int64_t count = 1;
  bool jsonl = false;
};

std::string_view name_of(lab::Form form) { return form == lab::Form::code ? "code" : "tokens"; }

std::vector<std::string> words_of(const lab::Vocabulary& vocabulary, const std::vector<std::int32_t>& ids) {
  std::vector<std::string> words;
  for (const auto id : ids) words.push_back(vocabulary.word(id));
  return words;
}

void print_json(const lab::Problem& problem, lab::Form form, std::int64_t index,
                const lab::Example& example) {
  const nlohmann::ordered_json line{{"problem", problem.name()},
                                    {"form", name_of(form)},
                                    {"index", index},
                                    {"ids", example.ids},
                                    {"words", words_of(problem.vocabulary(form), example.ids)},
                                    {"answers", example.answers},
                                    {"code", example.code}};
  fmt::print("{}\n", line.dump());
}

void print_text(const lab::Problem& problem, lab::Form form, std::int64_t index,
                const lab::Example& example) {
  fmt::print("{} {}, {}: {} tokens, {} answers\n", problem.name(), index, name_of(form), example.ids.size(),
             example.answers.size());
  if (form == lab::Form::code) {
    fmt::print("{}", example.code);
  } else {
    fmt::print("{}\n", fmt::join(words_of(problem.vocabulary(form), example.ids), " "));
  }
  fmt::print("\nsolver:\n{}\n", problem.trace(form, example.ids));
}

void run(const Options& o) {
  const auto& problem = lab::problem_named(o.problem);
  auto difficulty = o.difficulty;
  if (o.reveals == "bit") difficulty.reveals = lab::Reveal::bit;
  for (std::int64_t index = 0; index < o.count; ++index) {
    for (const auto form : {lab::Form::tokens, lab::Form::code}) {
      if (!o.form.empty() && o.form != name_of(form)) continue;
      const auto example = problem.make(form, difficulty, o.seed, static_cast<std::uint64_t>(index));
      (o.jsonl ? print_json : print_text)(problem, form, index, example);
    }
  }
}

}  // namespace

void add_lab_show(CLI::App& lab) {
  auto* command = lab.add_subcommand("show", "examples of a problem in both forms, with the solver's trace");
  auto o = std::make_shared<Options>();
  auto& d = o->difficulty;
  command->add_option("problem", o->problem, fmt::format("{}", fmt::join(lab::problem_names(), ", ")))
      ->required();
  command->add_option("--n", d.n, "actions; bits of recall; leaves of formulas")->capture_default_str();
  command->add_option("--form", o->form, "one form alone")->check(CLI::IsMember({"tokens", "code"}));
  command->add_option("--seed", o->seed, "of the examples")->capture_default_str();
  command->add_option("--count", o->count, "how many")->check(CLI::Range(1, 1 << 30))->capture_default_str();
  command->add_option("--reveal", d.reveal_spacing,
                      "a question after every so many actions, 0: only the last");
  command->add_option("--reveal-what", o->reveals, "ask the variables that index bits, or their bits")
      ->check(CLI::IsMember({"variable", "bit"}))
      ->capture_default_str();
  command->add_option("--bits", d.bits, "how many where there are actions too, 0: n");
  command->add_option("--modulus", d.modulus, "of the counter, 0: 5");
  command->add_option("--depth", d.depth, "most two-sided gates above a leaf of formulas, 0: 64");
  command->add_option("--padding", d.padding, "padding tokens of padded_formula, 0: n * n");
  command->add_flag("--jsonl", o->jsonl, "one JSON object an example and form, without trace");
  command->callback([o] { run(*o); });
}

}  // namespace braid::app
