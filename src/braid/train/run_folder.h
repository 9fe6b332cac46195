// What a run keeps on disk, so that a process killed anywhere loses nothing but time:
//   recipe.toml        the recipe with its overrides; another one may not continue the run
//   data.json          sizes and hashes of the token files, which bind in the same way
//   metrics.jsonl      one line per step and per validation, a pure function of the configuration
//   timing.jsonl       rates, which are not
//   checkpoints/step_00000100/   a model directory, optimizer.safetensors, training_state.json
//   model/             the trained model, once the run is complete
#pragma once
#include <optional>

#include "braid/text/tokenizer.h"
#include "braid/train/trainer.h"

namespace braid::train {

struct TrainingState {
  std::int64_t step = 0;
  std::uintmax_t metrics_bytes = 0;  // of metrics.jsonl at that step
  std::string arithmetic;            // Backend::description: another one may give other bits
};

class RunFolder {
 public:
  // Makes the folder, locks it against other processes, checks the recipe, and clears what a killed process
  // left.
  explicit RunFolder(const RunConfig& config);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  fs::path final_model() const { return folder_ / "model"; }
  bool complete() const { return fs::exists(final_model()); }

  // Fails when the run began on other data; `contents` is what tells data apart.
  void bind_data(const std::string& contents) const;
  // Restores the newest checkpoint that is whole and cuts the metrics back to it. Damaged ones are passed
  // over and named in `skipped`. None: a fresh start.
  std::optional<TrainingState> restore(Trainer& trainer, std::vector<std::string>& skipped);
  // Publishes a checkpoint, durably, then removes all but the newest `checkpoints_kept`.
  void save(const Trainer& trainer, const text::Tokenizer& tokenizer, std::int64_t step);
  // Publishes the trained model.
  void finish(const Trainer& trainer, const text::Tokenizer& tokenizer);

  void append_metrics(const std::string& line);
  void append_timing(const std::string& line);

 private:
  struct LogFile;
  fs::path checkpoint_path(std::int64_t step) const;
  std::vector<std::int64_t> checkpoint_steps() const;  // newest first
  void write_model(const fs::path& folder, const Trainer& trainer, const text::Tokenizer& tokenizer) const;

  const RunConfig& config_;
  fs::path folder_;
  int lock_ = -1;
  bool begun_ = false;  // an earlier process has left results
  std::unique_ptr<LogFile> metrics_, timing_;
};

}  // namespace braid::train
