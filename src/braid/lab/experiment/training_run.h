// One run of an experiment: training with its curriculum, checks, checkpoints, the final evaluation.
#pragma once
#include <functional>

#include "braid/lab/experiment/store.h"
#include "braid/ops/backend.h"

namespace braid::lab {

struct RunProgress {
  CheckLine check;
  std::int64_t first_step = 0;  // done by earlier processes
  std::int64_t steps = 0;       // of the whole run, at most
  double seconds = 0;           // of this process
};

// Every member may be empty.
struct RunObserver {
  std::function<void(const RunProgress&)> checked;
  std::function<void(const std::string&)> noticed;  // one line
  // Asked before each step; true: write a checkpoint and return.
  std::function<bool()> stop_requested;
};

enum class RunOutcome : std::uint8_t { finished, stopped };

// Goes on from the newest whole checkpoint of the run's folder, or from the start, and ends with result.json;
// killed anywhere and begun again, it ends with the same bytes. A run whose loss or gradient stops being
// finite is finished as a failure. Throws where files or memory fail.
RunOutcome run_one(const Backend& backend, const Experiment& experiment, const RunSpec& spec,
                   const Store& store, const RunObserver& observer = {});

// What the newest whole checkpoint of a run that is not finished answers, as a result would have it; `run` is
// its folder, of which nothing changes. noticed(one line) of damaged ones passed over. Throws where there is
// none that is whole.
RunResult evaluate_checkpoint(const Backend& backend, const Experiment& experiment, const RunSpec& spec,
                              const fs::path& run, const std::function<void(const std::string&)>& noticed);

}  // namespace braid::lab
