// What a run keeps on disk, so that a process killed anywhere loses nothing but time:
//   recipe.toml        the recipe with its overrides; one that computes something else may not continue the
//   run data.json          sizes and hashes of the token files, which bind in the same way metrics.jsonl one
//   line per step and per validation, a pure function of the configuration timing.jsonl       rates, which
//   are not tensorboard/       both for TensorBoard, where run.tensorboard asks for it
//   checkpoints/step_00000100/   checkpoint.h
//   model/             the trained model, once the run is complete
#pragma once
#include "braid/io/append_file.h"
#include "braid/io/folder_lock.h"
#include "braid/text/tokenizer.h"
#include "braid/train/recipe_changes.h"
#include "braid/train/trainer.h"

namespace braid::train {

class RunFolder {
 public:
  // Makes the folder, locks it against other processes, checks the recipe, and clears what a killed process
  // left.
  explicit RunFolder(const RunConfig& config);
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  fs::path final_model() const { return folder_ / "model"; }
  fs::path checkpoints() const { return folder_ / "checkpoints"; }
  fs::path tensorboard() const { return folder_ / "tensorboard"; }
  bool complete() const { return fs::exists(final_model()); }

  // Fails when the run began on other data; `contents` is what tells data apart.
  void bind_data(const std::string& contents) const;
  // Publishes the trained model, after everything logged is durable.
  void finish(const Trainer& trainer, const text::Tokenizer& tokenizer);

  io::AppendFile& metrics() { return *metrics_; }
  io::AppendFile& timing() { return *timing_; }

 private:
  void bind_recipe();

  const RunConfig& config_;
  fs::path folder_;
  std::optional<io::FolderLock> lock_;
  bool begun_ = false;  // an earlier process has left results
  std::unique_ptr<io::AppendFile> metrics_, timing_;
};

}  // namespace braid::train
