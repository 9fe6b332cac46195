// Length-normalised direct preference optimisation (Rafailov et al. 2023, eq. 7; normalised as in Tülu 3;
// paper, appendix A), where asked with the chosen responses' cross entropy beside it (Pang et al. 2024, arXiv
// 2404.19733, eq. 1), apart from any model: pure functions of log-probabilities.
#pragma once
#include <span>
#include <vector>

namespace braid::train {

// Mean log-probability per response token (nats) of a pair's two responses.
struct PairScore {
  double chosen = 0, rejected = 0;
  bool operator==(const PairScore&) const = default;
};

struct PreferenceLossOptions {
  double beta = 5;
  double chosen_weight = 0;  // α of the chosen responses' cross entropy
};

// Over the pairs of a batch, means. What is minimised is loss + chosen_weight · chosen_loss.
struct PreferenceLoss {
  double loss = 0;         // −log σ(margin)
  double chosen_loss = 0;  // −log p per token of the chosen responses
  double margin = 0;  // of the rewards: β · ((policy − reference)(chosen) − (policy − reference)(rejected))
  double accuracy = 0;  // share of pairs whose margin is above 0
  // The derivative of what is minimised by each pair's PairScore of the policy.
  std::vector<PairScore> slopes;
};

PreferenceLoss preference_loss(std::span<const PairScore> policy, std::span<const PairScore> reference,
                               const PreferenceLossOptions& options);

}  // namespace braid::train
