// Spikes of loss and gradient norm: values far from what came just before them.
#pragma once
#include <cstddef>
#include <vector>

namespace braid::report {

// Window and threshold of the paper's SpikeScore; the variance is the population's, as OLMo-core's
// StabilityMonitor takes it.
struct SpikeOptions {
  std::size_t window = 128;
  double sigmas = 6;
};

struct Spike {
  std::size_t row = 0;  // in the values given
  double value = 0;
  double mean = 0, deviation = 0;  // of the window before it; the deviation may be 0
};

struct SpikeStatistics {
  std::vector<Spike> spikes;  // more than `sigmas` above the mean
  // SpikeScore counts what lies at least `sigmas` from the mean on either side, itself off the mean.
  std::size_t far = 0, judged = 0;  // judged: values with a whole window before them
  double score() const;             // percent; NaN when nothing was judged
};

// NaN values are passed over: the window is of the values present.
SpikeStatistics spike_statistics(const std::vector<double>& values, const SpikeOptions& options = {});

}  // namespace braid::report
