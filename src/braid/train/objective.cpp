#include "braid/train/objective.h"

#include "braid/train/preference.h"

namespace braid::train {
namespace {

// Every token from those before it.
class NextToken : public Objective {
 public:
  NextToken(const data::Dataset& dataset, std::uint64_t seed, data::BatchOptions options)
      : dataset_(dataset), order_(seed, dataset.size()), options_(options) {}

  std::int64_t instances() const override { return dataset_.size(); }
  data::Batch assemble(std::int64_t first, std::int64_t count) const override {
    return data::assemble(dataset_, order_, first, count, options_);
  }

 private:
  const data::Dataset& dataset_;
  data::Order order_;
  data::BatchOptions options_;
};

}  // namespace

std::unique_ptr<Objective> make_objective(const RunConfig& config, const Datasets& datasets,
                                          const text::Tokenizer& tokenizer, data::BatchOptions options,
                                          const NoticeFunction& notice, const StopFunction& stop) {
  if (config.objective == ObjectiveKind::dpo) {
    return std::make_unique<PreferenceObjective>(config, tokenizer, notice, stop);
  }
  return std::make_unique<NextToken>(*datasets.train, config.seed, options);
}

}  // namespace braid::train
