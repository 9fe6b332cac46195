// Writes the checkpoints of a run into one folder, beside the training, and removes those that are no longer
// kept.
#pragma once
#include <functional>
#include <future>
#include <set>

#include "braid/train/checkpoint.h"
#include "braid/train/trainer.h"

namespace braid::train {

// What became of a checkpoint.
struct CheckpointReport {
  std::int64_t step = 0;
  std::string error;  // empty: it is published
};

class CheckpointWriter {
 public:
  // `folder` exists; what a killed process left unfinished there is removed.
  CheckpointWriter(fs::path folder, const RunConfig& config);
  // Waits for the checkpoint that is being written.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Copies the state to the host, which is all that asynchronous writing waits for, then writes, syncs and
  // publishes it, after `before`, which makes durable what the state refers to. Publishing removes the
  // checkpoints that are not kept. No other checkpoint may be in the making: wait() comes first.
  void save(const Trainer& trainer, const text::Tokenizer& tokenizer, const TrainingState& state,
            std::function<void()> before);
  // What became of the last save(), once: poll() where it has ended, wait() always; none: nothing to tell.
  std::optional<CheckpointReport> poll();
  std::optional<CheckpointReport> wait();

  // This one was passed over: it goes as soon as a new one is published.
  void discard(const fs::path& damaged) { damaged_.insert(damaged); }
  const fs::path& folder() const { return folder_; }
  // Host memory that asynchronous writing takes from the first checkpoint on.
  static std::size_t buffer_bytes(const RunConfig& config, const Trainer& trainer);

 private:
  struct Buffers;
  void write(const CheckpointContent& content, const std::function<void()>& before);
  void remove_old() const;

  fs::path folder_;
  const RunConfig& config_;
  std::unique_ptr<Buffers> buffers_;  // kept from one checkpoint to the next
  TrainingState state_;
  std::set<fs::path> damaged_;
  std::future<void> writing_;
};

}  // namespace braid::train
