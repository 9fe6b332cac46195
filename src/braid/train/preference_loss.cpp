#include "braid/train/preference_loss.h"

#include <cmath>

#include "braid/core/error.h"

namespace braid::train {
namespace {

// log(1 + e^x) without overflow, and its derivative σ(x).
double softplus(double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }
double sigmoid(double x) { return x > 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

}  // namespace

PreferenceLoss preference_loss(std::span<const PairScore> policy, std::span<const PairScore> reference,
                               const PreferenceLossOptions& o) {
  require(!policy.empty() && policy.size() == reference.size(),
          "preference_loss: {} pairs of the policy, {} of the reference", policy.size(), reference.size());
  const double share = 1 / static_cast<double>(policy.size());
  PreferenceLoss out;
  for (std::size_t i = 0; i < policy.size(); ++i) {
    const double reward_chosen = o.beta * (policy[i].chosen - reference[i].chosen);
    const double reward_rejected = o.beta * (policy[i].rejected - reference[i].rejected);
    const double margin = reward_chosen - reward_rejected;
    out.loss += share * softplus(-margin);
    out.margin += share * margin;
    out.accuracy += margin > 0 ? share : 0;
    const double slope = share * o.beta * sigmoid(-margin);
    out.chosen_loss -= share * policy[i].chosen;
    out.slopes.push_back({-slope - share * o.chosen_weight, slope});
  }
  return out;
}

}  // namespace braid::train
