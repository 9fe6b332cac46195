#include "braid/report/run_log.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "braid/io/compressed.h"
#include "braid/io/json.h"
#include "braid/io/safetensors.h"
#include "braid/io/toml.h"

namespace braid::report {
namespace {

using io::Fields;

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();
constexpr double kLargestTokens = 9007199254740992.0;  // 2^53: exact in a double

bool ends_in_newline(const fs::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file || file.tellg() <= 0) return true;
  file.seekg(-1, std::ios::end);
  return file.get() == '\n';
}

// Calls fn(fields) for each line's object.
template <class F>
void for_each_object(const fs::path& path, std::vector<std::string>& notices, F&& fn) {
  std::string problem;  // of the line before, forgiven if it was the last
  std::int64_t cut = 0;
  io::for_each_line(path, [&](std::string_view line, std::int64_t number) {
    require(problem.empty(), "{}", problem);
    if (line.find_first_not_of(" \t\r") == line.npos) return true;
    const auto source = fmt::format("{}:{}", path.string(), number);
    nlohmann::json value;
    try {
      value = io::parse_json(line, source);
    } catch (const Error& error) {
      problem = error.what();
      cut = number;
      return true;
    }
    fn(Fields(value, source));
    return true;
  });
  if (problem.empty()) return;
  require(!ends_in_newline(path), "{}", problem);
  notices.push_back(
      fmt::format("{}: line {}, the last, was cut off and is left out", path.filename().string(), cut));
}

// Every numeric or boolean key of the line but step and tokens. JSON has no NaN: null stands for one.
void put_numbers(SeriesBuilder& series, const Fields& line) {
  series.begin_row(line.integer("step", 0), line.number_or("tokens", kMissing, 0, kLargestTokens));
  for (const auto& [key, value] : line.value().items()) {
    if (key == "step" || key == "tokens") continue;
    if (value.is_number()) series.put(key, value.get<double>());
    if (value.is_boolean()) series.put(key, value.get<bool>() ? 1 : 0);
  }
}

// What the page draws as a curve must be a number where it is given.
void check_known(const Fields& line) {
  for (const auto* key : {"loss", "gradient_norm", "learning_rate", "validation_loss",
                          "validation_bits_per_byte", "tokens_per_second"}) {
    if (line.has(key)) line.number(key);
  }
}

void read_metrics(RunLog& run) {
  const auto path = run.folder / "metrics.jsonl";
  require(fs::exists(path), "{}: no such file: give the folder of a run, made by braid train", path.string());
  SeriesBuilder steps;
  std::map<std::string, SeriesBuilder> validation;
  for_each_object(path, run.notices, [&](const Fields& line) {
    check_known(line);
    const bool validates =
        line.has("source") || line.has("validation_loss") || line.has("validation_bits_per_byte");
    put_numbers(validates ? validation[line.string_or("source", "")] : steps, line);
  });
  run.steps = steps.finish();
  for (auto& [source, series] : validation) run.validation.emplace(source, series.finish());
}

void read_timing(RunLog& run) {
  const auto path = run.folder / "timing.jsonl";
  run.seconds = kMissing;
  if (!fs::exists(path)) return;
  SeriesBuilder timing;
  std::vector<std::pair<std::int64_t, double>> rates;
  for_each_object(path, run.notices, [&](const Fields& line) {
    check_known(line);
    const auto step = line.integer("step", 0);
    if (line.has("tokens_per_second")) rates.emplace_back(step, line.number("tokens_per_second", 0));
    // A killed run's metrics are cut back to its checkpoint and its timing is not.
    if (std::ranges::binary_search(run.steps.step, step)) put_numbers(timing, line);
  });
  run.timing = timing.finish();
  run.seconds = training_seconds(rates, run.steps);
  for (std::size_t row = 0; row < run.timing.rows(); ++row) {
    const auto at = std::ranges::lower_bound(run.steps.step, run.timing.step[row]) - run.steps.step.begin();
    run.timing.tokens[row] = run.steps.tokens[static_cast<std::size_t>(at)];
  }
}

void read_samples(RunLog& run) {
  const auto path = run.folder / "samples.jsonl";
  if (!fs::exists(path)) return;
  for_each_object(path, run.notices, [&](const Fields& line) {
    run.samples.push_back({line.integer("step", 0), line.string_or("prompt", ""), line.string("text")});
  });
  std::ranges::stable_sort(run.samples, {}, &Sample::step);
}

void read_scores(RunLog& run) {
  const auto path = run.folder / "scores.jsonl";
  if (!fs::exists(path)) return;
  std::map<std::pair<std::string, std::int64_t>, Score> latest;
  for_each_object(path, run.notices, [&](const Fields& line) {
    Score s{line.integer("step", 0), line.string("task"), line.number("score"),
            line.integer_or("examples", 0, 0)};
    latest.insert_or_assign({s.task, s.step}, s);
  });
  for (auto& [key, score] : latest) run.scores.push_back(std::move(score));
}

// One value on one line.
std::string toml_text(const toml::node& node) {
  std::ostringstream out;
  node.visit([&](const auto& value) { out << value; });
  auto text = out.str();
  std::ranges::replace(text, '\n', ' ');
  return text;
}

void flatten(const toml::table& table, const std::string& above, std::vector<RecipeEntry>& out) {
  for (const auto& [key, node] : table) {
    const auto path = above + (above.empty() ? "" : ".") + std::string(key.str());
    if (node.is_table()) {
      flatten(*node.as_table(), path, out);
    } else if (node.is_array_of_tables()) {
      std::size_t i = 0;
      for (const auto& element : *node.as_array()) {
        flatten(*element.as_table(), fmt::format("{}[{}]", path, i++), out);
      }
    } else {
      out.push_back({path, toml_text(node)});
    }
  }
}

// Of one folder of weights; nothing where there is none, or none that can be read: that is for others to
// judge.
std::optional<std::int64_t> count_parameters(const fs::path& folder) {
  try {
    const io::TensorFiles files(folder);
    std::int64_t count = 0;
    for (const auto& [name, tensor] : files.tensors()) count += tensor.count();
    return count;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

std::optional<std::int64_t> find_parameters(const fs::path& folder) {
  std::vector<fs::path> candidates;
  std::error_code ignored;  // no checkpoints
  for (const auto& entry : fs::directory_iterator(folder / "checkpoints", ignored)) {
    if (entry.path().filename().string().starts_with("step_")) candidates.push_back(entry.path());
  }
  std::ranges::sort(candidates);
  candidates.push_back(folder / "model");
  for (; !candidates.empty(); candidates.pop_back()) {
    if (const auto count = count_parameters(candidates.back())) return count;
  }
  return std::nullopt;
}

}  // namespace

std::vector<RecipeEntry> flatten_recipe(std::string_view text, const std::string& source) {
  std::vector<RecipeEntry> out;
  flatten(io::parse_toml(text, source), "", out);
  std::ranges::sort(out, {}, &RecipeEntry::key);
  return out;
}

double training_seconds(const std::vector<std::pair<std::int64_t, double>>& lines, const Series& steps) {
  const auto tokens_at = [&](std::int64_t step) {  // 0 before the first step
    const auto at = std::ranges::upper_bound(steps.step, step) - steps.step.begin();
    return at == 0 ? 0.0 : steps.tokens[static_cast<std::size_t>(at - 1)];
  };
  double seconds = 0;
  bool any = false;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const bool last_of_process = i + 1 == lines.size() || lines[i + 1].first <= lines[i].first;
    if (!last_of_process) continue;
    const double rate = lines[i].second,
                 tokens = tokens_at(lines[i].first) - tokens_at(lines[begin].first - 1);
    if (rate > 0) seconds += tokens / rate;
    any = any || rate > 0;
    begin = i + 1;
  }
  return any ? seconds : kMissing;
}

RunLog read_run(const fs::path& folder) {
  RunLog run;
  run.folder = folder;
  read_metrics(run);
  read_timing(run);
  read_samples(run);
  read_scores(run);
  if (const auto recipe = folder / "recipe.toml"; fs::exists(recipe)) {
    run.recipe_text = io::read_file(recipe);
    run.recipe = flatten_recipe(run.recipe_text, recipe.string());
  }
  run.parameters = find_parameters(folder);
  return run;
}

}  // namespace braid::report
