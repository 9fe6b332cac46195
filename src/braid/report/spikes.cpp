#include "braid/report/spikes.h"

#include <cmath>
#include <limits>

namespace braid::report {

double SpikeStatistics::score() const {
  if (judged == 0) return std::numeric_limits<double>::quiet_NaN();
  return 100.0 * static_cast<double>(far) / static_cast<double>(judged);
}

SpikeStatistics spike_statistics(const std::vector<double>& values, const SpikeOptions& options) {
  SpikeStatistics out;
  std::vector<double> window(options.window);  // the latest values, written round and round
  std::size_t seen = 0;
  for (std::size_t row = 0; row < values.size(); ++row) {
    const double value = values[row];
    if (std::isnan(value)) continue;
    if (seen >= options.window && options.window != 0) {
      // Summed anew each time: running sums would lose a small deviation to rounding after a large spike.
      double sum = 0, squares = 0;
      for (const double v : window) sum += v;
      const double mean = sum / static_cast<double>(options.window);
      for (const double v : window) squares += (v - mean) * (v - mean);
      const double deviation = std::sqrt(squares / static_cast<double>(options.window));
      const double distance = value - mean, bound = options.sigmas * deviation;
      ++out.judged;
      if (distance != 0 && std::abs(distance) >= bound) ++out.far;
      if (distance > bound) out.spikes.push_back({row, value, mean, deviation});
    }
    if (options.window != 0) window[seen % options.window] = value;
    ++seen;
  }
  return out;
}

}  // namespace braid::report
