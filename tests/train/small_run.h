// A run of six steps on a few bytes, for tests of whole runs.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>

#include "braid/backends/backends.h"
#include "braid/train/run.h"
#include "tests/support/files.h"

namespace braid::test {

namespace fs = std::filesystem;

inline train::RunConfig config_in(const fs::path& folder, std::vector<std::string> overrides = {}) {
  std::string lines;
  for (int document = 0; document < 12; ++document) {
    std::string text;
    for (int i = 0; i < 15; ++i)
      text += fmt::format("the fox number {} jumps over the lazy dog. ", (i + document) * i);
    lines += "{\"text\": \"" + text + "\"}\n";
  }
  put(folder / "text.jsonl", lines);
  put(folder / "recipe.toml",
      "[run]\nfolder = \"" + (folder / "run").string() + "\"\n[data]\ndocuments = [\"" +
          (folder / "text.jsonl").string() +
          "\"]\nvalidation_fraction = 0.4\nsequence_length = 32\n[model]\nlayers = 4\nhidden_size = "
          "16\nheads = 2\nintermediate_size = 32\n"
          "[train]\nsteps = 6\nbatch_size = 4\nmicro_batch_size = 2\n[schedule]\nlearning_rate = 0.01\n"
          "[validation]\nevery = 3\nbatches = 2\n[checkpoint]\nevery = 2\n");
  return train::read_run_config(folder / "recipe.toml", overrides);
}

struct Stop {};

inline train::RunOutcome run(const train::RunConfig& config, const train::Observer& observer) {
  return train::run(make_backend("cpu", {.threads = 1, .target = {}}), config, observer);
}

// Runs to the end, or to `stop_after` steps as if killed there.
inline train::RunOutcome run(const train::RunConfig& config, std::int64_t stop_after = -1,
                             std::vector<std::string>* notices = nullptr) {
  train::Observer observer;
  observer.stepped = [&](const train::StepProgress& p) {
    if (p.step == stop_after) throw Stop{};
  };
  observer.noticed = [&](const std::string& line) {
    if (notices != nullptr) notices->push_back(line);
  };
  return run(config, observer);
}

// Whether one of the lines holds both.
inline bool any_holds(const std::vector<std::string>& lines, std::string_view a, std::string_view b = "") {
  return std::ranges::any_of(lines, [&](const auto& line) { return holds(line, a) && holds(line, b); });
}

struct Result {
  std::string metrics, weights;
  bool operator==(const Result&) const = default;
};
inline Result result_of(const fs::path& folder) {
  return {io::read_file(folder / "run/metrics.jsonl"), io::read_file(folder / "run/model/model.safetensors")};
}

inline Result unbroken(std::vector<std::string> overrides = {}) {
  const TemporaryFolder folder;
  run(config_in(folder.path(), std::move(overrides)));
  return result_of(folder.path());
}

}  // namespace braid::test
