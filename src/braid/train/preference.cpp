#include "braid/train/preference.h"

#include <algorithm>
#include <numeric>

#include "braid/train/initial_state.h"

namespace braid::train {
namespace {

// Calls fn(row, first token, targets in it) for each row.
template <class F>
void for_each_row(const data::Batch& batch, F&& fn) {
  const auto length = static_cast<std::size_t>(batch.sequence_length);
  for (std::size_t row = 0; row < static_cast<std::size_t>(batch.instances); ++row) {
    const auto targets = std::span(batch.targets).subspan(row * length, length);
    const auto count = std::ranges::count_if(targets, [](std::int32_t t) { return t >= 0; });
    fn(row, row * length, static_cast<double>(count));
  }
}

double& side(PairScore& score, std::size_t row) { return row % 2 == 0 ? score.chosen : score.rejected; }
double side(const PairScore& score, std::size_t row) { return row % 2 == 0 ? score.chosen : score.rejected; }

}  // namespace

std::vector<PairScore> pair_scores(const data::Batch& batch, std::span<const float> losses) {
  std::vector<PairScore> scores(static_cast<std::size_t>(batch.instances / 2));
  for_each_row(batch, [&](std::size_t row, std::size_t first, double targets) {
    double sum = 0;
    for (std::size_t i = first; i < first + static_cast<std::size_t>(batch.sequence_length); ++i) {
      if (batch.targets[i] >= 0) sum -= static_cast<double>(losses[i]);
    }
    side(scores[row / 2], row) = sum / targets;
  });
  return scores;
}

std::vector<float> token_weights(const data::Batch& batch, std::span<const PairScore> slopes) {
  std::vector<float> weights(batch.ids.size(), 0.0f);
  for_each_row(batch, [&](std::size_t row, std::size_t first, double targets) {
    // A token's loss is minus its log-probability, of which the score is the mean.
    const double weight = -side(slopes[row / 2], row) / targets * static_cast<double>(batch.predicted);
    for (std::size_t i = first; i < first + static_cast<std::size_t>(batch.sequence_length); ++i) {
      if (batch.targets[i] >= 0) weights[i] = static_cast<float>(weight);
    }
  });
  return weights;
}

PreferenceObjective::PreferenceObjective(const RunConfig& config, const text::Tokenizer& tokenizer,
                                         const NoticeFunction& notice, const StopFunction& stop)
    : config_(config),
      training_{read_preferences(config.data.preferences, tokenizer, config.data.sequence_length, stop),
                "reference_scores.safetensors"},
      held_out_{{}, "validation_reference_scores.safetensors"},
      weights_hash_(hash_initial_weights(config)),
      order_(config.seed, static_cast<std::int64_t>(training_.data.pairs.size())),
      padding_(*tokenizer.end_of_text()) {
  const auto& files = config.data.validation_preferences;
  if (!files.empty()) {
    held_out_.data = read_preferences(files, tokenizer, config.data.sequence_length, stop);
  }
  for (const auto* pairs : {&training_.data, &held_out_.data}) {
    if (!notice || pairs->pairs.empty()) continue;
    notice(fmt::format("{}: {} pairs; {} left out, which are longer than {} tokens",
                       pairs == &training_.data ? "preferences" : "validation preferences",
                       pairs->pairs.size(), pairs->left_out, config.data.sequence_length));
  }
}

std::vector<std::int64_t> PreferenceObjective::pairs_at(std::int64_t first, std::int64_t count) const {
  require(first % 2 == 0 && count % 2 == 0, "preferences: positions {} to {} split a pair", first,
          first + count);
  std::vector<std::int64_t> pairs;
  for (std::int64_t i = first / 2; i < (first + count) / 2; ++i) pairs.push_back(order_.at(i));
  return pairs;
}

data::Batch PreferenceObjective::assemble(std::int64_t first, std::int64_t count) const {
  return assemble_pairs(training_.data, pairs_at(first, count), config_.data.sequence_length, padding_);
}

// With the reference, since a run that goes on against another one would be neither run.
nlohmann::ordered_json PreferenceObjective::contents() const {
  nlohmann::ordered_json all{training_.data.pairs.size(), training_.data.hash, weights_hash_};
  if (validates()) all.insert(all.end(), {held_out_.data.pairs.size(), held_out_.data.hash});
  return all;
}

std::vector<PairScore> PreferenceObjective::score_all(Trainer& trainer, const Preferences& data,
                                                      const StopFunction& stop) const {
  const auto pairs = static_cast<std::int64_t>(data.pairs.size());
  const auto at_a_time = config_.batch_size / 2;
  std::vector<PairScore> scores;
  for (std::int64_t first = 0; first < pairs; first += at_a_time) {
    stop_if(stop);
    std::vector<std::int64_t> some(static_cast<std::size_t>(std::min(at_a_time, pairs - first)));
    std::iota(some.begin(), some.end(), first);
    const auto batch = assemble_pairs(data, some, config_.data.sequence_length, padding_);
    const auto part = pair_scores(batch, trainer.token_losses(batch));
    scores.insert(scores.end(), part.begin(), part.end());
  }
  return scores;
}

bool PreferenceObjective::find_reference(Scored& pairs, const NoticeFunction& notice) const {
  const auto path = config_.folder / pairs.file;
  auto kept = read_reference_scores(path, {weights_hash_, pairs.data.hash}, pairs.data.pairs.size());
  if (!kept) return false;
  pairs.reference = std::move(*kept);
  if (notice) notice(fmt::format("reference scores: {}", path.string()));
  return true;
}

void PreferenceObjective::prepare(Trainer& trainer, const NoticeFunction& notice, const StopFunction& stop) {
  bool loaded = false;
  for (auto* pairs : {&training_, &held_out_}) {
    if (pairs->data.pairs.empty() || find_reference(*pairs, notice)) continue;
    if (!loaded) set_initial_weights(trainer, config_);
    loaded = true;
    pairs->reference = score_all(trainer, pairs->data, stop);
    const auto path = config_.folder / pairs->file;
    write_reference_scores(path, {weights_hash_, pairs->data.hash}, pairs->reference);
    if (notice) {
      notice(fmt::format("reference scores: {} pairs scored, kept in {}", pairs->reference.size(),
                         path.string()));
    }
  }
}

nlohmann::ordered_json PreferenceObjective::validate(Trainer& trainer, const StopFunction& stop) const {
  require(!held_out_.reference.empty(), "preferences: prepare() comes before validation");
  const auto loss =
      preference_loss(score_all(trainer, held_out_.data, stop), held_out_.reference, config_.dpo);
  return {{"validation_loss", loss.loss},
          {"validation_reward_margin", loss.margin},
          {"validation_reward_accuracy", loss.accuracy},
          {"source", "preferences"}};
}

nlohmann::ordered_json PreferenceObjective::weigh(Trainer& trainer, data::Batch& batch,
                                                  std::int64_t first) const {
  require(!training_.reference.empty(), "preferences: prepare() comes before the first step");
  std::vector<PairScore> reference;
  for (const auto pair : pairs_at(first, batch.instances)) {
    reference.push_back(training_.reference[static_cast<std::size_t>(pair)]);
  }
  const auto policy = pair_scores(batch, trainer.token_losses(batch));
  const auto loss = preference_loss(policy, reference, config_.dpo);
  batch.weights = token_weights(batch, loss.slopes);
  nlohmann::ordered_json told{
      {"dpo_loss", loss.loss}, {"reward_margin", loss.margin}, {"reward_accuracy", loss.accuracy}};
  if (config_.dpo.chosen_weight != 0) told["chosen_loss"] = loss.chosen_loss;
  return told;
}

}  // namespace braid::train
