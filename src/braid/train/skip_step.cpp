#include "braid/train/skip_step.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "braid/train/statistics.h"

namespace braid::train {

void SkipStep::enter(std::vector<double>& history, double value) const {
  history.push_back(value);
  const auto most = static_cast<std::size_t>(options_.window + 1);
  if (history.size() > most)
    history.erase(history.begin(), history.end() - static_cast<std::ptrdiff_t>(most));
}

// Of the newest value among those before it; the variance is the unbiased one.
bool SkipStep::within(const std::vector<double>& history) const {
  const auto before = std::span(history).first(history.size() - 1);
  const auto spread = spread_of(before);
  const double deviation = std::sqrt(spread.squares / static_cast<double>(before.size() - 1));
  return history.back() - spread.mean <= options_.sigma * deviation;
}

double SkipStep::factor(double loss, double gradient_norm) {
  enter(losses_, loss);
  enter(gradient_norms_, gradient_norm);
  const auto enough = std::max<std::int64_t>({2, options_.window / 2, 3});
  if (std::ssize(losses_) < enough) return 1;
  return within(losses_) && within(gradient_norms_) ? 1 : 0;
}

void SkipStep::restore(std::vector<double> losses, std::vector<double> gradient_norms) {
  losses_.clear();
  gradient_norms_.clear();
  for (const double x : losses) enter(losses_, x);
  for (const double x : gradient_norms) enter(gradient_norms_, x);
}

}  // namespace braid::train
