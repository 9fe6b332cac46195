// Length-normalised DPO as a run's objective (preference_loss.h). A step takes two forwards: the batch is
// scored by the policy as it is, and the derivative of the preference loss becomes each token's weight in an
// ordinary step.
#pragma once
#include "braid/train/objective.h"
#include "braid/train/preference_data.h"
#include "braid/train/preference_loss.h"
#include "braid/train/reference_scores.h"

namespace braid::train {

// Mean log-probability of the responses of each pair, from the losses of a batch that assemble_pairs() made.
std::vector<PairScore> pair_scores(const data::Batch& batch, std::span<const float> token_losses);
// Weights that make a step on the batch follow these slopes: the step itself divides by batch.predicted.
std::vector<float> token_weights(const data::Batch& batch, std::span<const PairScore> slopes);

class PreferenceObjective : public Objective {
 public:
  // Reads data.preferences and tells the initial weights apart; the config must outlive the objective.
  PreferenceObjective(const RunConfig& config, const text::Tokenizer& tokenizer, const NoticeFunction& notice,
                      const StopFunction& stop = {});

  std::int64_t instances() const override {
    return 2 * static_cast<std::int64_t>(training_.data.pairs.size());
  }
  // `first` and `count` are even: pairs stay together. Their order is that of data::Order over pairs.
  data::Batch assemble(std::int64_t first, std::int64_t count) const override;
  nlohmann::ordered_json contents() const override;
  // Scores every pair with the initial weights, once: the result is kept in the run folder under the hashes
  // of those weights and of the pairs, and used again where they agree.
  void prepare(Trainer& trainer, const NoticeFunction& notice, const StopFunction& stop) override;
  bool validates() const override { return !held_out_.data.pairs.empty(); }
  // "validation_loss" (of DPO), "validation_reward_margin", "validation_reward_accuracy" of the held-out
  // pairs.
  nlohmann::ordered_json validate(Trainer& trainer, const StopFunction& stop) const override;
  // "dpo_loss", "reward_margin", "reward_accuracy" of the batch before the step; "chosen_loss" where it has a
  // weight.
  nlohmann::ordered_json weigh(Trainer& trainer, data::Batch& batch, std::int64_t first) const override;

 private:
  // Pairs with what the reference makes of them.
  struct Scored {
    Preferences data;
    std::string file;                    // of the scores, in the run folder
    std::vector<PairScore> reference{};  // by pair
  };
  std::vector<std::int64_t> pairs_at(std::int64_t first, std::int64_t count) const;
  std::vector<PairScore> score_all(Trainer& trainer, const Preferences& data, const StopFunction& stop) const;
  // Whether the scores are on disk; reads them.
  bool find_reference(Scored& pairs, const NoticeFunction& notice) const;

  const RunConfig& config_;
  Scored training_, held_out_;  // held_out_: empty where the recipe names none
  std::string weights_hash_;
  data::Order order_;
  text::TokenId padding_;
};

}  // namespace braid::train
