// The [schedule] table of a recipe: the learning rate of each step; and the instances that each step takes.
#pragma once
#include <vector>

#include "braid/train/fields.h"

namespace braid::train {

struct RunConfig;

enum class Decay : std::uint8_t {
  cosine,
  linear,
  constant,
  wsd,    // warm-up, stable, decay: linear, over the last `decay_steps`
  wsd_s,  // the same in every period, each but the first beginning at the peak again (paper, appendix D;
          // OLMo-core)
};

// Steps count from 1.
struct ScheduleConfig {
  double peak = 3e-4;  // learning rate after warm-up
  std::int64_t warmup_steps = 0;
  Decay decay = Decay::cosine;
  double final_fraction = 0.1;              // of the peak, at the last step; wsd_s: of every period
  std::int64_t decay_steps = 0;             // wsd
  double decay_fraction = 0.1;              // wsd_s: of each period's steps
  std::vector<std::int64_t> period_ends{};  // wsd_s: last step of each period, ascending
};

// Steps before `until_step` take `batch_size` sequences.
struct BatchWarmup {
  std::int64_t until_step = 0, batch_size = 0;
};

// Both ends included.
struct StepRange {
  std::int64_t first = 0, last = 0;
};

// The keys of [train] that say how many steps there are and what each takes: steps or tokens, batch_size,
// micro_batch_size, batch_warmup, skip_steps.
void read_steps(const io::TomlFields& train, RunConfig& config);
// `config` has its steps and batch sizes already: what is given in tokens or fractions becomes steps.
ScheduleConfig read_schedule_config(const io::TomlFields& table, const RunConfig& config);

// Learning rate of a step: linear warm-up to the peak, then decay to its final fraction.
double learning_rate(const ScheduleConfig& schedule, std::int64_t step, std::int64_t steps);

// Whether a wsd_s period ends with this step: its weights are a finished model.
bool ends_period(const ScheduleConfig& schedule, std::int64_t step);

// Sequences that a step takes; skipped steps take theirs too.
std::int64_t instances_in(const RunConfig& config, std::int64_t step);
// Position in the run's order of the first sequence of `step`: how many the steps before it have taken.
std::int64_t instances_before(const RunConfig& config, std::int64_t step);
// Tokens taken by the steps up to and including this one.
std::int64_t tokens_through(const RunConfig& config, std::int64_t step);
// The first step with tokens_through(step) >= tokens; 0 for 0.
std::int64_t steps_for_tokens(const RunConfig& config, std::int64_t tokens);
// In train.skip_steps: the step's data are passed over without an update.
bool skips(const RunConfig& config, std::int64_t step);

}  // namespace braid::train
