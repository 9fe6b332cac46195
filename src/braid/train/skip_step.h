// Which optimiser steps are left out because their loss or gradient norm is an outlier: SkipStepAdamW's rule
// (OLMo-core, optim/skip_step_optimizer.py).
#pragma once
#include <cstdint>
#include <vector>

namespace braid::train {

struct SkipStepOptions {
  std::int64_t window = 128;  // values before the newest that are kept
  double sigma = 6;
};

class SkipStep {
 public:
  explicit SkipStep(SkipStepOptions options) : options_(options) {}

  // Enters a step's mean cross entropy and its gradient norm before clipping, both finite, and returns what
  // its update is multiplied by: 1, or 0 where one of them lies more than sigma standard deviations above the
  // mean of those before it. Skipped values stay in the history. 1 while the history, this step included,
  // has fewer than max(2, window / 2) entries, or than the three that an unbiased deviation takes.
  double factor(double loss, double gradient_norm);

  // Oldest first, at most window + 1; where there are more, the newest are taken.
  void restore(std::vector<double> losses, std::vector<double> gradient_norms);
  const std::vector<double>& losses() const { return losses_; }
  const std::vector<double>& gradient_norms() const { return gradient_norms_; }

 private:
  void enter(std::vector<double>& history, double value) const;
  bool within(const std::vector<double>& history) const;

  SkipStepOptions options_;
  std::vector<double> losses_, gradient_norms_;
};

}  // namespace braid::train
