// How often loss and gradient norm spike (paper, SpikeScore; OLMo-core, StabilityMonitor).
#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace braid::train {

// The paper's SpikeScore: the percentage of values that lie at least `sigma` standard deviations (population)
// from the mean of the `window` values before them, on either side. Values with fewer before them are not
// counted, and one after a window without spread is no spike.
struct SpikeOptions {
  std::int64_t window = 128;
  double sigma = 6;
};
double spike_score(std::span<const double> values, SpikeOptions options = {});

// One series as the monitor remembers it.
struct SpikeState {
  std::int64_t seen = 0;               // values so far
  std::vector<double> recent{};        // the last `window`, oldest first
  std::vector<std::int64_t> spikes{};  // which of the last `rolling` values were spikes, the first being 1
  bool operator==(const SpikeState&) const = default;
};
struct StabilityState {
  SpikeState loss, gradient_norm;
  bool operator==(const StabilityState&) const = default;
};

struct StabilityOptions {
  std::int64_t window = 128, rolling = 10'000;
  double sigma = 6;
};

// OLMo-core's StabilityMonitor, for each series by itself: a value is a spike where it exceeds the mean of
// the `window` before it by more than `sigma` population standard deviations.
class StabilityMonitor {
 public:
  explicit StabilityMonitor(StabilityOptions options = {}) : options_(options) {}

  void add(double loss, double gradient_norm);
  // Fraction of spikes among those of the last `rolling` values that had a whole window before them; 0
  // before there are any.
  double loss_spikes() const { return fraction(state_.loss); }
  double gradient_norm_spikes() const { return fraction(state_.gradient_norm); }

  const StabilityState& state() const { return state_; }
  void restore(StabilityState state) { state_ = std::move(state); }

 private:
  void add(SpikeState& series, double value) const;
  double fraction(const SpikeState& series) const;

  StabilityOptions options_;
  StabilityState state_;
};

}  // namespace braid::train
