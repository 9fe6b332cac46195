// The [schedule] table of a recipe: the learning rate of each step.
#pragma once
#include "braid/train/fields.h"

namespace braid::train {

enum class Decay : std::uint8_t { cosine, linear, constant };

struct ScheduleConfig {
  double peak = 3e-4;  // learning rate after warm-up
  std::int64_t warmup_steps = 0;
  Decay decay = Decay::cosine;
  double final_fraction = 0.1;  // of the peak, at the last step
};

ScheduleConfig read_schedule_config(const io::TomlFields& table);

// Learning rate of a step, counted from 1: linear warm-up to the peak, then decay to its final fraction.
double learning_rate(const ScheduleConfig& schedule, std::int64_t step, std::int64_t steps);

}  // namespace braid::train
