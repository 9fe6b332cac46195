#include "braid/lab/experiment/store.h"

#include <algorithm>
#include <sstream>

#include "braid/io/json.h"
#include "braid/train/recipe_changes.h"

namespace braid::lab {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kExperiment = "experiment.toml";

const fs::path& made(const fs::path& folder) {
  fs::create_directories(folder / "runs");
  return folder;
}

// Keys that say what is searched, where things lie and what is kept, but not what a run computes.
bool may_differ(const std::string& key) {
  static const std::vector<std::string> kFree = {"name", "folder", "model.architectures",
                                                 "train.checkpoint_seconds", "train.keep_models"};
  return key.starts_with("grid.") || std::ranges::find(kFree, key) != kFree.end();
}

std::string or_absent(const std::string& value) { return value.empty() ? "absent" : value; }

Json spec_json(const RunSpec& run) {
  return {{"architecture", name_of(run.architecture)},
          {"learning_rate", run.learning_rate},
          {"schedule", name_of_schedule(run.schedule)},
          {"seed", run.seed}};
}

RunSpec parse_spec(const io::Fields& f) {
  const auto all = all_architectures();
  const auto name = f.string("architecture");
  const auto found = std::ranges::find(all, name, [](Architecture a) { return name_of(a); });
  if (found == all.end()) f.reject("architecture", "is none that the lab knows");
  const auto schedule = f.string("schedule");
  if (schedule != "cosine" && schedule != "constant") f.reject("schedule", "is neither cosine nor constant");
  return {.architecture = *found,
          .learning_rate = f.number("learning_rate", 0),
          .schedule = schedule == "cosine" ? train::Decay::cosine : train::Decay::constant,
          .seed = f.integer("seed", 0)};
}

// Lines of a file that a crash may have cut in its last one, which is then left out.
template <class Fn>
void for_each_line(const fs::path& path, const Fn& fn) {
  if (!fs::exists(path)) return;
  const auto text = io::read_file(path);
  std::size_t begin = 0, number = 1;
  for (std::size_t end; (end = text.find('\n', begin)) != text.npos; begin = end + 1, ++number) {
    const auto source = fmt::format("{}:{}", path.string(), number);
    const auto json = io::parse_json(std::string_view(text).substr(begin, end - begin), source);
    fn(io::Fields(json, source));
  }
}

std::vector<CheckLine> read_checks(const fs::path& path) {
  std::vector<CheckLine> checks;
  for_each_line(path, [&](const io::Fields& f) {
    checks.push_back({.step = f.integer("step", 1),
                      .n = f.integer("n", 1),
                      .loss = f.number("loss"),
                      .gradient_norm = f.number("gradient_norm"),
                      .learning_rate = f.number("learning_rate"),
                      .correct = f.integer("correct", 0),
                      .samples = f.integer("samples", 1)});
  });
  return checks;
}

// Each process counts from 0: the last line before a fall is what it took.
double read_seconds(const fs::path& path) {
  double sum = 0, last = 0;
  for_each_line(path, [&](const io::Fields& f) {
    const auto seconds = f.number("seconds", 0);
    if (seconds < last) sum += last;
    last = seconds;
  });
  return sum + last;
}

// As the experiment asks, so that runs compare.
void check_lengths(const RunResult& result, const Experiment& experiment, const fs::path& folder) {
  const bool fits = std::ranges::equal(result.lengths, experiment.lengths, {}, &LengthResult::n);
  require(fits || (!result.failure.empty() && result.lengths.empty()),
          "{}: field 'lengths' does not hold the lengths of the experiment: remove the run, and run the "
          "experiment again",
          (folder / "result.json").string());
}

StoredRun read_run(const fs::path& folder, const RunSpec& spec, const Experiment& experiment) {
  StoredRun run{.spec = spec,
                .result = std::nullopt,
                .checks = read_checks(folder / "metrics.jsonl"),
                .seconds = read_seconds(folder / "timing.jsonl")};
  if (fs::exists(folder / "result.json")) {
    run.result = read_result(folder / "result.json");
    check_lengths(*run.result, experiment, folder);
  }
  return run;
}

}  // namespace

Store::Store(const Experiment& experiment)
    : folder_(experiment.folder), lock_(made(experiment.folder), "running an experiment") {
  bind(experiment);
}

void Store::bind(const Experiment& experiment) const {
  const auto path = folder_ / kExperiment;
  if (fs::exists(path) && !fs::is_empty(folder_ / "runs")) {
    for (const auto& c : train::recipe_changes(io::read_file(path), experiment.text)) {
      require(
          may_differ(c.key),
          "{}: holds an experiment with {} = {}, here it is {}: its runs would not compare; choose another "
          "'folder', or remove it",
          folder_.string(), c.key, or_absent(c.before), or_absent(c.now));
    }
  }
  io::write_file(path, experiment.text);
}

void Store::write(const RunResult& r) const {
  Json json = spec_json(r.spec);
  json["steps"] = r.steps;
  json["last_n"] = r.last_n;
  json["parameters"] = r.parameters;
  json["loss"] = r.loss;
  json["lengths"] = Json::array();
  for (const auto& l : r.lengths) {
    json["lengths"].push_back({{"n", l.n}, {"correct", l.correct}, {"samples", l.samples}});
  }
  if (!r.failure.empty()) json["failure"] = r.failure;
  json["arithmetic"] = r.arithmetic;
  io::write_file(folder_of(r.spec) / "result.json", json.dump(1) + "\n");
}

RunResult read_result(const fs::path& path) {
  const auto json = io::read_json(path);
  const io::Fields f(json, path.string());
  RunResult r{.spec = parse_spec(f),
              .steps = f.integer("steps", 0),
              .last_n = f.integer("last_n", 1),
              .parameters = f.integer("parameters", 1),
              .loss = f.number_or("loss", 0),
              .lengths = {},
              .failure = f.string_or("failure", ""),
              .arithmetic = f.string("arithmetic")};
  const auto& lengths = f.array("lengths");
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const io::Fields l(lengths[i], path.string(), fmt::format("lengths[{}]", i));
    LengthResult result{
        .n = l.integer("n", 1), .correct = l.integer("correct", 0), .samples = l.integer("samples", 1)};
    if (result.correct > result.samples) l.reject("correct", "is more than 'samples'");
    r.lengths.push_back(result);
  }
  return r;
}

std::string line_of(const CheckLine& c) {
  const Json json{{"step", c.step},
                  {"n", c.n},
                  {"loss", c.loss},
                  {"gradient_norm", c.gradient_norm},
                  {"learning_rate", c.learning_rate},
                  {"correct", c.correct},
                  {"samples", c.samples}};
  return json.dump() + "\n";
}

StoredExperiment read_store(const fs::path& folder) {
  const auto path = folder / kExperiment;
  require(fs::exists(path), "{}: holds no experiment.toml: give the 'folder' of an experiment that was run",
          folder.string());
  StoredExperiment store{.folder = folder,
                         .experiment = parse_experiment(io::read_file(path), path.string()),
                         .runs = {},
                         .planned = 0};
  const auto grid = store.experiment.runs();
  store.planned = grid.size();
  require(fs::is_directory(folder / "runs"),
          "{}: holds no runs: give the 'folder' of an experiment that was run", folder.string());
  std::vector<std::string> others;
  for (const auto& entry : fs::directory_iterator(folder / "runs")) {
    if (entry.is_directory()) others.push_back(entry.path().filename().string());
  }
  std::ranges::sort(others);
  for (const auto& spec : grid) {
    const auto found = std::ranges::find(others, spec.name());
    if (found == others.end()) continue;
    store.runs.push_back(read_run(folder / "runs" / *found, spec, store.experiment));
    others.erase(found);
  }
  // Finished by an earlier grid.
  for (const auto& name : others) {
    const auto run = folder / "runs" / name;
    if (!fs::exists(run / "result.json")) continue;
    store.runs.push_back(read_run(run, read_result(run / "result.json").spec, store.experiment));
  }
  return store;
}

}  // namespace braid::lab
