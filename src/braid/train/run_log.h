// What a run says of its steps, wherever it is kept: metrics.jsonl, timing.jsonl, TensorBoard's event files.
#pragma once
#include "braid/train/event_file.h"
#include "braid/train/run.h"
#include "braid/train/run_folder.h"

namespace braid::train {

class RunLog {
 public:
  RunLog(RunFolder& folder, const RunConfig& config) : folder_(folder), config_(config) {}

  // After the run's state was restored: the lines of later steps go.
  void begin(std::uintmax_t metrics_bytes, std::int64_t first_step);
  // `more`: fields of the objective, numbers; null: none.
  void step(const StepProgress& progress, const nlohmann::ordered_json& more);
  void validation(const Validation& validation);
  // Of the objective: its numbers.
  void own_validation(std::int64_t step, std::int64_t tokens, const nlohmann::ordered_json& numbers);
  // Bytes that a full disk keeps in memory.
  std::size_t waiting() const;

 private:
  RunFolder& folder_;
  const RunConfig& config_;
  std::unique_ptr<EventFile> events_;
};

}  // namespace braid::train
