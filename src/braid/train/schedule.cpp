#include "braid/train/schedule.h"

#include <cmath>
#include <numbers>

namespace braid::train {

ScheduleConfig read_schedule_config(const io::TomlFields& f) {
  return {.peak = f.number_or("learning_rate", 3e-4, 0, 1e3),
          .warmup_steps = f.integer_or("warmup_steps", 0, 0, kMaxCount),
          .decay = choose<Decay>(
              f, "decay", "cosine",
              {{"cosine", Decay::cosine}, {"linear", Decay::linear}, {"constant", Decay::constant}}),
          .final_fraction = f.number_or("final_fraction", 0.1, 0, 1)};
}

double learning_rate(const ScheduleConfig& s, std::int64_t step, std::int64_t steps) {
  if (step <= s.warmup_steps) return s.peak * static_cast<double>(step) / static_cast<double>(s.warmup_steps);
  if (s.decay == Decay::constant || steps <= s.warmup_steps) return s.peak;
  const double progress =
      static_cast<double>(step - s.warmup_steps) / static_cast<double>(steps - s.warmup_steps);
  const double shape =
      s.decay == Decay::linear ? 1 - progress : 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return s.peak * (s.final_fraction + (1 - s.final_fraction) * shape);
}

}  // namespace braid::train
