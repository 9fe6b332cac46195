// A whole training run: data, steps, validation, checkpoints, final model; killed and restarted, it ends the
// same.
#pragma once
#include <functional>

#include "braid/train/config.h"
#include "braid/train/trainer.h"

namespace braid::train {

struct RunSummary {
  std::int64_t parameters = 0, tokens_per_step = 0, instances = 0, validation_instances = 0, first_step = 0;
  MemoryPlan memory{};
  std::size_t checkpoint_bytes = 0;  // of host memory that checkpoints are copied to; 0: none
  double flops_per_token = 0;
};

struct StepProgress {
  std::int64_t step = 0, steps = 0, tokens = 0;
  StepResult result;
  double tokens_per_second = 0, seconds_left = 0, flops_per_second = 0;
  // Since this process began to train, and how much of it the loader kept the steps waiting.
  double seconds = 0, seconds_waited_for_data = 0;
};

struct Validation {
  std::int64_t step = 0, tokens = 0;  // tokens trained on so far
  std::string source = {};            // empty: the recipe names no sources
  double loss = 0, bits_per_byte = 0;
  std::uint64_t saturated = 0;
};

// What the run tells its caller; every member may be empty.
struct Observer {
  std::function<void(const RunSummary&)> started;
  std::function<void(const StepProgress&)> stepped;
  std::function<void(const Validation&)> validated;
  std::function<void(const std::string&)> noticed;  // one line: data built, checkpoint written, resumed …
  // Asked while data are prepared, between steps and between the batches of a validation; true: write a
  // checkpoint, if there was a step, and return.
  std::function<bool()> stop_requested = {};
};

enum class RunOutcome : std::uint8_t {
  finished,
  already_complete,
  stopped,  // as asked; the same call goes on
};
// Throws where the run cannot go on, or where it ends or stops without having been able to write its state.
RunOutcome run(const Backend& backend, RunConfig config, const Observer& observer);

}  // namespace braid::train
