#include "braid/lab/experiment/experiment.h"

#include <algorithm>
#include <set>
#include <sstream>

#include "braid/io/quote.h"
#include "braid/train/model_table.h"

namespace braid::lab {
namespace {

using io::TomlFields;
using train::choose, train::kMaxCount, train::kMaxSize;

constexpr std::int64_t kMaxN = 1 << 20, kVocabularyTile = 64;

std::optional<double> read_without_reveals(const TomlFields& f, Reveals reveals) {
  if (!f.has("without_reveals")) return std::nullopt;
  if (reveals == Reveals::none) {
    f.reject("without_reveals", "goes with problem.reveals = \"fixed\" or \"powers-of-two\"");
  }
  return f.number("without_reveals", 0, 1);
}

void read_problem(const TomlFields& f, Experiment& e) {
  const auto name = f.string("name");
  try {
    e.problem = &problem_named(name);
  } catch (const Error& error) {
    f.reject("name", fmt::format("is unusable: {}", error.what()));
  }
  e.form = choose<Form>(f, "form", "code", {{"code", Form::code}, {"tokens", Form::tokens}});
  auto& d = e.settings;
  d.bits = f.integer_or("bits", 0, 0, kMaxN);
  d.modulus = f.integer_or("modulus", 0, 0, kMaxN);
  d.depth = f.integer_or("depth", 0, 0, kMaxN);
  d.padding = f.integer_or("padding", 0, 0, kMaxN);
  d.reveals = choose<Reveal>(f, "reveal", "variable", {{"variable", Reveal::variable}, {"bit", Reveal::bit}});
  auto& c = e.curriculum;
  c.reveals = choose<Reveals>(
      f, "reveals", "none",
      {{"none", Reveals::none}, {"fixed", Reveals::fixed}, {"powers-of-two", Reveals::powers_of_two}});
  c.without_reveals = read_without_reveals(f, c.reveals).value_or(0);
}

// Throws, naming the key, where the problem cannot make this example.
void check_difficulty(const Experiment& e, const TomlFields& f, std::string_view key, Difficulty difficulty) {
  try {
    e.problem->check(difficulty);
  } catch (const Error& error) {
    f.reject(key, fmt::format("{} is unusable: {}", difficulty.n, error.what()));
  }
}

void read_stages(const TomlFields& root, Experiment& e) {
  auto& c = e.curriculum;
  const auto tables = root.tables("stage");
  if (tables.empty()) root.reject("stage", "is missing: give at least one [[stage]] with n");
  for (std::size_t i = 0; i < tables.size(); ++i) {
    const auto& f = tables[i];
    const bool last = i + 1 == tables.size(), fixed = c.reveals == Reveals::fixed;
    Stage s{.n = f.integer("n", 1, kMaxN),
            .steps = f.integer_or("steps", 0, 0, kMaxCount),
            .accuracy = f.number_or("accuracy", 0, 0, 1)};
    if (!last && s.steps == 0) f.reject("steps", "is missing: every stage but the last must end");
    if (last && f.has("accuracy"))
      f.reject("accuracy", "is for the stages before the last: see train.stop_accuracy");
    if (f.has("reveal_spacing") != fixed) {
      f.reject("reveal_spacing",
               fixed ? "is missing: reveals = \"fixed\" needs it" : "goes with problem.reveals = \"fixed\"");
    }
    if (fixed) s.reveal_spacing = f.integer("reveal_spacing", 1, kMaxN);
    s.without_reveals = read_without_reveals(f, c.reveals);
    check_difficulty(e, f, "n", e.difficulty(s.n, s.reveal_spacing));
    if (c.reveals == Reveals::powers_of_two) check_difficulty(e, f, "n", e.difficulty(s.n, 1));
    c.stages.push_back(s);
  }
}

void read_architectures(const TomlFields& f, Experiment& e) {
  if (!f.has("architectures")) {
    const auto all = all_architectures();
    e.architectures.assign(all.begin(), all.end());
    return;
  }
  for (const auto& name : f.strings("architectures")) {
    const auto all = all_architectures();
    const auto found = std::ranges::find(all, name, [](Architecture a) { return name_of(a); });
    if (found == all.end()) {
      std::string names;
      for (const auto a : all) names += fmt::format("{}{}", names.empty() ? "" : ", ", name_of(a));
      f.reject("architectures", fmt::format("holds {}, expected some of {}", io::in_quotes(name), names));
    }
    if (std::ranges::find(e.architectures, *found) != e.architectures.end()) {
      f.reject("architectures", fmt::format("names '{}' twice", name));
    }
    e.architectures.push_back(*found);
  }
  if (e.architectures.empty()) f.reject("architectures", "is empty");
}

void read_model(const TomlFields& f, Experiment& e) {
  read_architectures(f, e);
  for (const auto* key : {"preset", "config", "directory", "start_from", "negative_eigenvalues"}) {
    if (f.has(key)) f.reject(key, "does not go with an experiment: 'architectures' says what is compared");
  }
  e.hybrid = train::read_model_table(f, 1).config;
  if (!e.hybrid.has_linear() || !e.hybrid.has_attention()) {
    f.reject(f.has("layer_types") ? "layer_types" : "variant",
             "must describe the hybrid, with layers of both kinds");
  }
  const auto words = e.words();
  if (e.hybrid.vocabulary_size == 0) {
    e.hybrid.vocabulary_size = (words + kVocabularyTile - 1) / kVocabularyTile * kVocabularyTile;
  }
  if (e.hybrid.vocabulary_size < words) {
    f.reject("vocabulary_size",
             fmt::format("is {}, but '{}' has {} words", e.hybrid.vocabulary_size, e.problem->name(), words));
  }
  for (const auto architecture : e.architectures) {
    config_of(architecture, e.hybrid).validate(fmt::format("{}: model", f.source()));
  }
}

void read_training(const TomlFields& f, Experiment& e) {
  e.steps = f.integer("steps", 1, kMaxCount);
  e.batch_size = f.integer_or("batch_size", 32, 1, kMaxSize);
  e.warmup_steps = f.integer_or("warmup_steps", 250, 0, e.steps);
  e.final_fraction = f.number_or("final_fraction", 0, 0, 1);
  e.loss = choose<LossTokens>(f, "loss", "all", {{"all", LossTokens::all}, {"answers", LossTokens::answers}});
  using train::Precision;
  e.precision =
      choose<Precision>(f, "precision", "auto",
                        {{"auto", Precision::automatic}, {"f32", Precision::f32}, {"bf16", Precision::bf16}});
  e.check_every = f.integer_or("check_every", 100, 1, kMaxCount);
  e.check_samples = f.integer_or("check_samples", 256, 1, kMaxSize);
  e.checkpoint_seconds = f.integer_or("checkpoint_seconds", 120, 0, kMaxCount);
  e.keep_models =
      choose<KeepModels>(f, "keep_models", "none", {{"none", KeepModels::none}, {"all", KeepModels::all}});
  auto& c = e.curriculum;
  c.earlier = f.number_or("earlier_stages", 0, 0, 1);
  c.stop_accuracy = f.number_or("stop_accuracy", 0, 0, 1);
  if (f.has("stop_checks") && c.stop_accuracy == 0) f.reject("stop_checks", "goes with stop_accuracy");
  c.stop_checks = f.integer_or("stop_checks", 1, 1, kMaxCount);
}

void read_grid(const TomlFields& f, Experiment& e) {
  auto& g = e.grid;
  g.learning_rates = f.numbers("learning_rates");
  if (g.learning_rates.empty()) f.reject("learning_rates", "is empty");
  for (const double rate : g.learning_rates) {
    if (!(rate > 0 && rate <= 10)) f.reject("learning_rates", fmt::format("has {}, expected 0 to 10", rate));
  }
  for (const auto& name : f.strings("schedules")) {
    if (name != "cosine" && name != "constant") {
      f.reject("schedules", fmt::format("has {}, expected cosine or constant", io::in_quotes(name)));
    }
    g.schedules.push_back(name == "cosine" ? train::Decay::cosine : train::Decay::constant);
  }
  if (g.schedules.empty()) f.reject("schedules", "is empty");
  g.draws = f.integer_or("draws", 0, 0, 100000);
  if (f.has("seeds") && g.draws != 0)
    f.reject("seeds", "and 'draws' are both given: each draw has its own seed");
  g.seeds = f.has("seeds") ? f.integers("seeds", 0, kMaxCount) : std::vector<std::int64_t>{1};
  if (g.seeds.empty()) f.reject("seeds", "is empty");
  std::set<std::string> names;
  for (const auto& run : e.runs()) {
    if (names.insert(run.name()).second) continue;
    f.reject("learning_rates", fmt::format("and the other keys name the run '{}' twice", run.name()));
  }
}

void read_evaluation(const TomlFields& f, Experiment& e) {
  e.lengths = f.integers("lengths", 1, kMaxN);
  if (e.lengths.empty()) f.reject("lengths", "is empty");
  if (std::ranges::adjacent_find(e.lengths, std::greater_equal{}) != e.lengths.end()) {
    f.reject("lengths", "must rise");
  }
  e.samples = f.integer_or("samples", 256, 1, kMaxSize);
  e.evaluation_reveal_spacing = f.integer_or("reveal_spacing", 0, 0, kMaxN);
  e.evaluation_parts = f.integer_or("reveal_parts", 0, 0, kMaxN);
  if (e.evaluation_parts > 0 && e.evaluation_reveal_spacing > 0) {
    f.reject("reveal_parts", "is given beside reveal_spacing: expected one of them");
  }
  for (const auto n : e.lengths) check_difficulty(e, f, "lengths", e.evaluation_difficulty(n));
}

Experiment parse_table(const toml::table& table, const std::string& source) {
  const TomlFields f(table, source);
  Experiment e;
  e.name = f.string("name");
  e.folder = f.string("folder");
  if (e.folder.empty()) f.reject("folder", "is empty");
  e.seed = static_cast<std::uint64_t>(f.integer_or("seed", 1, 0));
  read_problem(f.table("problem"), e);
  read_stages(f, e);
  read_training(f.table("train"), e);
  read_evaluation(f.table("evaluation"), e);
  read_model(f.table("model"), e);
  e.optimizer = train::read_optimizer_config(f.table_or_empty("optimizer"));
  read_grid(f.table("grid"), e);
  f.finish();
  std::ostringstream text;
  text << table << "\n";
  e.text = text.str();
  return e;
}

}  // namespace

Difficulty Experiment::difficulty(std::int64_t n, std::int64_t reveal_spacing) const {
  auto d = settings;
  d.n = n;
  d.reveal_spacing = reveal_spacing;
  return d;
}

Difficulty Experiment::evaluation_difficulty(std::int64_t n) const {
  return difficulty(
      n, evaluation_parts > 0 ? std::max<std::int64_t>(1, n / evaluation_parts) : evaluation_reveal_spacing);
}

std::int64_t Experiment::words() const {
  std::int64_t most = 0;
  const auto include = [&](std::int64_t n) {
    most = std::max(most, problem->vocabulary_size(form, difficulty(n, 0)));
  };
  for (const auto& stage : curriculum.stages) include(stage.n);
  for (const auto n : lengths) include(n);
  return most;
}

train::RunConfig Experiment::training(const RunSpec& run) const {
  train::RunConfig c;
  c.seed = static_cast<std::uint64_t>(run.seed);
  c.model = config_of(run.architecture, hybrid);
  c.optimizer = optimizer;
  c.steps = steps;
  c.batch_size = c.micro_batch_size = batch_size;
  c.schedule = {.peak = run.learning_rate,
                .warmup_steps = warmup_steps,
                .decay = run.schedule,
                .final_fraction = final_fraction};
  c.precision = precision;
  c.checkpoint.keep = 1;
  return c;
}

Experiment read_experiment(const fs::path& path, const std::vector<std::string>& overrides) {
  toml::table table = io::read_toml(path);
  for (const auto& assignment : overrides) io::apply_override(table, assignment);
  return parse_table(table, path.string());
}

Experiment parse_experiment(std::string_view text, const std::string& source) {
  return parse_table(io::parse_toml(text, source), source);
}

}  // namespace braid::lab
