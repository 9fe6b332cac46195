// What an experiment leaves on disk (docs/files.md): a folder for each run, in which result.json, written
// last and whole, says that the run is finished.
#pragma once
#include "braid/io/folder_lock.h"
#include "braid/lab/experiment/experiment.h"

namespace braid::lab {

// Answers right of so many, at one length.
struct LengthResult {
  std::int64_t n = 0, correct = 0, samples = 0;
  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(samples); }
  bool operator==(const LengthResult&) const = default;
};

struct RunResult {
  RunSpec spec;
  std::int64_t steps = 0;       // made
  std::int64_t last_n = 0;      // of the stage that it ended in
  std::int64_t parameters = 0;  // of the model
  double loss = 0;              // mean of the last steps up to a check
  std::vector<LengthResult> lengths;
  std::string failure;     // why training ended early; empty: it did not. `lengths` is empty then
  std::string arithmetic;  // Backend::description
};

// Opens or makes the experiment's folder for writing, one process at a time.
class Store {
 public:
  // Throws where the folder holds another experiment: all that decides a run's result must be as it was;
  // what is searched (grid, architectures) and what is kept may change.
  explicit Store(const Experiment& experiment);

  fs::path folder_of(const RunSpec& run) const { return folder_ / "runs" / run.name(); }
  bool finished(const RunSpec& run) const { return fs::exists(folder_of(run) / "result.json"); }
  void write(const RunResult& result) const;

 private:
  void bind(const Experiment& experiment) const;

  fs::path folder_;
  io::FolderLock lock_;
};

// One line of metrics.jsonl.
struct CheckLine {
  std::int64_t step = 0, n = 0;
  double loss = 0;  // mean over the steps since the line before
  double gradient_norm = 0, learning_rate = 0;
  std::int64_t correct = 0, samples = 0;  // of the held-out examples
};
std::string line_of(const CheckLine& check);

// A run as its folder tells it.
struct StoredRun {
  RunSpec spec;
  std::optional<RunResult> result;  // none: not finished
  std::vector<CheckLine> checks;
  double seconds = 0;  // of training, over all processes
};

// An experiment's folder read back, finished or not.
struct StoredExperiment {
  fs::path folder;
  Experiment experiment;
  std::vector<StoredRun> runs;  // those that were begun, in the order of the grid; then others, by name
  std::size_t planned = 0;      // runs of the grid
};
// Errors name file and field.
StoredExperiment read_store(const fs::path& folder);

RunResult read_result(const fs::path& path);

}  // namespace braid::lab
