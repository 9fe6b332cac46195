#include "braid/train/stability.h"

#include <algorithm>
#include <cmath>

#include "braid/train/statistics.h"

namespace braid::train {
namespace {

constexpr double kNoSpread = 1e-10;  // OLMo-core's: below it only rounding is left

// In standard deviations of the values before it; 0 where these have no spread.
double distance(std::span<const double> before, double value) {
  const auto spread = spread_of(before);
  const double deviation = std::sqrt(spread.squares / static_cast<double>(before.size()));
  return deviation < kNoSpread ? 0 : (value - spread.mean) / deviation;
}

}  // namespace

double spike_score(std::span<const double> values, SpikeOptions options) {
  const auto window = static_cast<std::size_t>(options.window);
  if (values.size() <= window) return 0;
  std::int64_t spikes = 0;
  for (std::size_t i = window; i < values.size(); ++i) {
    if (std::abs(distance(values.subspan(i - window, window), values[i])) >= options.sigma) ++spikes;
  }
  return 100 * static_cast<double>(spikes) / static_cast<double>(values.size() - window);
}

void StabilityMonitor::add(SpikeState& s, double value) const {
  ++s.seen;
  if (std::ssize(s.recent) >= options_.window) {
    if (distance(s.recent, value) > options_.sigma) s.spikes.push_back(s.seen);
    s.recent.erase(s.recent.begin());
  }
  s.recent.push_back(value);
  std::erase_if(s.spikes, [&](std::int64_t at) { return at <= s.seen - options_.rolling; });
}

void StabilityMonitor::add(double loss, double gradient_norm) {
  add(state_.loss, loss);
  add(state_.gradient_norm, gradient_norm);
}

double StabilityMonitor::fraction(const SpikeState& s) const {
  const auto judged = std::min(s.seen - options_.window, options_.rolling);
  return judged <= 0 ? 0 : static_cast<double>(s.spikes.size()) / static_cast<double>(judged);
}

}  // namespace braid::train
