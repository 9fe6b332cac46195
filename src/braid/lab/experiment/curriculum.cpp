#include "braid/lab/experiment/curriculum.h"

#include <algorithm>
#include <bit>

namespace braid::lab {

CurriculumState advanced(const Curriculum& c, CurriculumState state, std::int64_t step,
                         std::optional<double> accuracy) {
  const auto& stage = c.stages[state.stage];
  const bool last = state.stage + 1 == c.stages.size();
  if (last && c.stop_accuracy > 0 && accuracy) {
    state.streak = *accuracy >= c.stop_accuracy ? state.streak + 1 : 0;
    state.finished = state.streak >= c.stop_checks;
  }
  const bool reached = stage.accuracy > 0 && accuracy && *accuracy >= stage.accuracy;
  const bool over = stage.steps != 0 && step - state.began >= stage.steps;
  if (!last && (reached || over)) return {.stage = state.stage + 1, .began = step};
  if (last && over) state.finished = true;
  return state;
}

std::size_t draw_stage(const Curriculum& c, std::size_t stage, Random& random) {
  const double share = random.uniform(), place = random.uniform();
  if (share >= c.earlier || stage == 0) return stage;
  return std::min(stage - 1, static_cast<std::size_t>(place * static_cast<double>(stage)));
}

std::vector<std::int64_t> reveal_spacings(const Curriculum& c, const Stage& stage) {
  std::vector<std::int64_t> spacings{0};
  if (c.reveals == Reveals::fixed) spacings.push_back(stage.reveal_spacing);
  for (std::int64_t spacing = 1; c.reveals == Reveals::powers_of_two && spacing <= stage.n; spacing *= 2) {
    spacings.push_back(spacing);
  }
  return spacings;
}

std::int64_t draw_reveal_spacing(const Curriculum& c, const Stage& stage, Random& random) {
  const bool without = random.uniform() < stage.without_reveals.value_or(c.without_reveals);
  const auto powers = std::bit_width(static_cast<std::uint64_t>(stage.n));  // 1 … 2^(powers - 1) ≤ n
  const auto power = random.below(static_cast<std::uint64_t>(powers));
  if (without || c.reveals == Reveals::none) return 0;
  return c.reveals == Reveals::fixed ? stage.reveal_spacing : std::int64_t{1} << power;
}

}  // namespace braid::lab
