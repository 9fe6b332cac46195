// What a run folder tells of the run: docs/files.md lists the files and their keys.
#pragma once
#include <optional>

#include "braid/io/files.h"
#include "braid/report/series.h"

namespace braid::report {

namespace fs = std::filesystem;

struct Sample {
  std::int64_t step = 0;
  std::string prompt, text;
};

struct Score {
  std::int64_t step = 0;
  std::string task;
  double score = 0;
  std::int64_t examples = 0;  // 0: not said
};

struct RecipeEntry {
  std::string key, value;  // dotted key; value as TOML
};

struct RunLog {
  fs::path folder;
  Series steps;                              // every numeric key of the step lines
  std::map<std::string, Series> validation;  // by source; "" for lines that name none
  Series timing;                             // of the steps that `steps` has
  double seconds = 0;                        // of training, by the rates; NaN: not known
  std::vector<RecipeEntry> recipe;           // sorted by key; empty when there is no recipe.toml
  std::string recipe_text;
  std::optional<std::int64_t> parameters;  // of the model or newest checkpoint, if it can be read
  std::vector<Sample> samples;
  std::vector<Score> scores;
  std::vector<std::string> notices;  // what was left out, and why
};

// Reads metrics.jsonl and, where they are, timing.jsonl, samples.jsonl, scores.jsonl, recipe.toml and the
// sizes of the weights. A last line that a crash cut off is left out, with a notice; any other bad line is an
// error that names file and line. A step written twice: the later line counts.
RunLog read_run(const fs::path& folder);

// Leaves of a recipe by dotted key, sorted; the value as TOML on one line.
std::vector<RecipeEntry> flatten_recipe(std::string_view toml, const std::string& source);

// Seconds that the steps took, those done twice included. A line of timing.jsonl gives the mean rate since
// its process began; a new process shows where the step does not rise, and one that went on with the next
// step counts as the continuation of the one before. `lines`: (step, tokens per second) in the order of the
// file. NaN when nothing can be told.
double training_seconds(const std::vector<std::pair<std::int64_t, double>>& lines, const Series& steps);

}  // namespace braid::report
