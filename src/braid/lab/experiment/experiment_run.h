// All runs of an experiment, several at a time.
#pragma once
#include "braid/lab/experiment/training_run.h"

namespace braid::lab {

// A run that is being made.
struct RunningRun {
  std::string name;
  RunProgress progress;  // of its last check; steps 0: none yet
};

struct GridProgress {
  std::size_t runs = 0, finished = 0, failed = 0;  // failures are finished too
  std::vector<RunningRun> running;                 // by name
  double seconds = 0;                              // since this process began
  double steps_per_second = 0;                     // of all runs together
  double seconds_left = 0;                         // at most, if no run ends early; 0: not known yet
};

// Called by one thread at a time; every member may be empty.
struct GridObserver {
  std::function<void(const GridProgress&)> progressed;  // after checks and ends of runs
  std::function<void(const std::string&)> noticed;
  std::function<void(const RunResult&)> run_finished;
  std::function<bool()> stop_requested;  // asked by several threads at once
};

// Makes the runs that the experiment's folder does not hold yet, each by a thread with one of the backends.
// What one of them throws stops the others, with a checkpoint, and is thrown at the end.
RunOutcome run_experiment(std::span<const Backend> backends, const Experiment& experiment,
                          const GridObserver& observer = {});

}  // namespace braid::lab
