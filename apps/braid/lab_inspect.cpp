#include <nlohmann/json.hpp>

#include "braid/lab/experiment/lab_tokenizer.h"
#include "braid/lab/inspect/inspect.h"
#include "lab.h"

namespace braid::app {
namespace {

struct Options {
  std::string model, text, problem, form, page, json;
  lab::Difficulty difficulty;
  std::uint64_t seed = 0;
  BackendOptions backend;
};

// What the model directory says of itself, unless options say it.
lab::LabTokenizer tokenizer_of(const Options& o) {
  const bool known = io::fs::exists(io::fs::path(o.model) / lab::LabTokenizer::kFileName);
  if (o.problem.empty()) return lab::LabTokenizer::of_model(o.model);
  auto form = o.form == "code" ? lab::Form::code : lab::Form::tokens;
  if (o.form.empty() && known) form = lab::LabTokenizer::of_model(o.model).form();
  return {lab::problem_named(o.problem), form};
}

void run(const Options& o) {
  const auto tokenizer = tokenizer_of(o);
  const auto ids = o.text.empty() ? tokenizer.problem().make(tokenizer.form(), o.difficulty, o.seed, 0).ids
                                  : tokenizer.encode(o.text);
  std::vector<std::string> words;
  for (const auto id : ids) words.push_back(tokenizer.vocabulary().word(id));
  const Backend backend = o.backend.make();
  const auto model = model::load_model(o.model, {}, backend.memory);
  const auto inspection = lab::inspect(backend, model, ids, std::move(words));
  if (!o.json.empty()) io::write_file(o.json, lab::inspection_json(inspection, o.model).dump(1) + "\n");
  if (!o.page.empty()) io::write_file(o.page, lab::render_inspection(inspection, o.model));
  fmt::print("{}\n{}", tokenizer.decode(ids), lab::inspection_text(inspection));
  if (inspection.heads.empty()) fmt::print("the model has no delta-rule layer\n");
  fmt::print("heads' outputs differ from the ordinary forward by {:.1e} (relative RMS)\n",
             inspection.difference);
}

}  // namespace

void add_lab_inspect(CLI::App& lab) {
  auto* command =
      lab.add_subcommand("inspect", "gates, eigenvalues and states of a model's delta-rule heads");
  auto o = std::make_shared<Options>();
  command->add_option("model", o->model, "model directory")->required()->check(CLI::ExistingDirectory);
  auto* text = command->add_option("--text", o->text, "words of the problem to read");
  command->add_option("--problem", o->problem,
                      "problem whose words the model reads; the model's own without it");
  command->add_option("--form", o->form, "and its form")->check(CLI::IsMember({"tokens", "code"}));
  command->add_option("--n", o->difficulty.n, "read an example of this difficulty")->excludes(text);
  command->add_option("--reveal", o->difficulty.reveal_spacing, "a question after every so many actions")
      ->excludes(text);
  command->add_option("--bits", o->difficulty.bits, "how many where there are actions too, 0: n")
      ->excludes(text);
  command->add_option("--seed", o->seed, "of the example")->excludes(text);
  command->add_option("--output", o->page, "write an HTML page");
  command->add_option("--json", o->json, "write everything as JSON");
  o->backend.add_to(*command);
  command->callback([o] { run(*o); });
}

}  // namespace braid::app
