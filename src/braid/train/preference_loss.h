// Length-normalised direct preference optimisation (Rafailov et al. 2023, eq. 7; normalised as in Tülu 3;
// paper, appendix A), apart from any model: pure functions of log-probabilities.
#pragma once
#include <span>
#include <vector>

namespace braid::train {

// Mean log-probability per response token (nats) of a pair's two responses.
struct PairScore {
  double chosen = 0, rejected = 0;
  bool operator==(const PairScore&) const = default;
};

// Over the pairs of a batch, means.
struct PreferenceLoss {
  double loss = 0;  // −log σ(β · margin)
  double margin = 0;  // of the rewards: β · ((policy − reference)(chosen) − (policy − reference)(rejected))
  double accuracy = 0;  // share of pairs whose margin is above 0
  // The mean loss' derivative by each pair's PairScore of the policy.
  std::vector<PairScore> slopes;
};

PreferenceLoss preference_loss(std::span<const PairScore> policy, std::span<const PairScore> reference,
                               double beta);

}  // namespace braid::train
