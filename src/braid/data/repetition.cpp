#include "braid/data/repetition.h"

#include <algorithm>

namespace braid::data {
namespace {

constexpr std::int64_t kFewestRepeats = 3;

// fn(repetition) for each run of at least `fewest` repeats; it returns false to stop.
template <class Fn>
void for_each_run(std::span<const TokenId> ids, std::int64_t period, std::int64_t fewest, const Fn& fn) {
  const auto size = static_cast<std::int64_t>(ids.size());
  const auto* const id = ids.data();
  std::int64_t begin = 0;  // of the run that reaches up to i
  for (std::int64_t i = period; i <= size; ++i) {
    if (i < size && id[i] == id[i - period]) continue;
    if (i - begin >= fewest * period && !fn(Repetition{begin, i, period})) return;
    begin = i + 1 - period;
  }
}

}  // namespace

std::vector<Repetition> find_repetitions(std::span<const TokenId> ids, const RepetitionFilter& filter) {
  std::vector<Repetition> found;
  for (std::int64_t period = filter.min_period; period <= filter.max_period; ++period) {
    for_each_run(ids, period, kFewestRepeats, [&](const Repetition& run) {
      found.push_back(run);
      return true;
    });
  }
  return found;
}

bool is_repetitive(std::span<const TokenId> ids, const RepetitionFilter& filter) {
  const std::int64_t fewest = std::max(filter.max_repetitions, kFewestRepeats);
  bool found = false;
  for (std::int64_t period = filter.min_period; period <= filter.max_period && !found; ++period) {
    for_each_run(ids, period, fewest, [&](const Repetition&) {
      found = true;
      return false;
    });
  }
  return found;
}

}  // namespace braid::data
