#include "braid/train/run.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "braid/data/loader.h"
#include "braid/data/text_bytes.h"
#include "braid/model/counts.h"
#include "braid/train/datasets.h"
#include "braid/train/initial_state.h"
#include "braid/train/metrics.h"
#include "braid/train/run_folder.h"

namespace braid::train {
namespace {

void notice(const Observer& observer, const std::string& line) {
  if (observer.noticed) observer.noticed(line);
}

class Run {
 public:
  Run(const Backend& backend, const RunConfig& config, const Observer& observer, RunFolder& folder)
      : config_(config),
        observer_(observer),
        folder_(folder),
        tokenizer_(text::load_tokenizer(config.data.tokenizer)),
        data_(open_datasets(config.data, config.seed, *tokenizer_, observer.noticed)),
        order_(config.seed, data_.train->size()),
        token_bytes_(data::token_bytes(*tokenizer_)),
        trainer_(backend, config) {
    options_ = {.end_of_text = tokenizer_->end_of_text().value_or(-1),
                .document_masking =
                    config.data.document_masking ? data::DocumentMasking::yes : data::DocumentMasking::no};
    training_options_ = options_;
    training_options_.instance_filter = config.data.instance_filter;
  }

  void run() {
    folder_.bind_data(data_.contents.dump());
    const std::int64_t first = start();
    if (observer_.started) observer_.started(summary(first));
    if (first == 0) validate_if_due(0);
    loader_.emplace([this](std::int64_t step) { return batch_of(step); }, first + 1, config_.steps,
                    data::LoaderOptions{.threads = config_.data.loaders});
    begin_ = Clock::now();
    for (auto step = first + 1; step <= config_.steps; ++step) {
      advance(step, first);
      validate_if_due(step);
      if (due(config_.checkpoint_every, step)) {
        folder_.save(trainer_, *tokenizer_, step);
        notice(observer_, fmt::format("checkpoint at step {}", step));
      }
    }
    folder_.finish(trainer_, *tokenizer_);
  }

 private:
  using Clock = std::chrono::steady_clock;

  // At multiples of `every`, and always at the last step.
  bool due(std::int64_t every, std::int64_t step) const {
    return step == config_.steps || (every != 0 && step % every == 0);
  }
  std::int64_t tokens_per_step() const { return config_.batch_size * config_.data.sequence_length; }

  // Restores or initialises; returns the last step done.
  std::int64_t start() {
    std::vector<std::string> damaged;
    const auto state = folder_.restore(trainer_, damaged);
    for (const auto& line : damaged) notice(observer_, "passed over a damaged checkpoint: " + line);
    if (state) {
      notice(observer_, fmt::format("resuming after step {}", state->step));
      if (const auto& now = trainer_.backend().description; now != state->arithmetic) {
        notice(observer_,
               fmt::format("the checkpoint was made on '{}', this is '{}': the last bits may differ from an "
                           "unbroken run",
                           state->arithmetic, now));
      }
      return state->step;
    }
    set_initial_weights(trainer_, config_);
    return 0;
  }

  RunSummary summary(std::int64_t first) const {
    return {.parameters = model::count_parameters(config_.model).total(),
            .tokens_per_step = tokens_per_step(),
            .instances = data_.train->size(),
            .validation_instances = data_.validation_instances(),
            .first_step = first,
            .memory = trainer_.memory_plan(),
            .flops_per_token = model::training_flops(config_.model, config_.data.sequence_length)};
  }

  // Called by the loader's threads.
  data::Batch batch_of(std::int64_t step) const {
    return data::assemble(*data_.train, order_, (step - 1) * config_.batch_size, config_.batch_size,
                          training_options_);
  }

  void advance(std::int64_t step, std::int64_t first) {
    const auto batch = loader_->next();
    const auto result = trainer_.step(batch, step);
    const auto tokens = step * tokens_per_step();
    folder_.append_metrics(step_line(step, tokens, result));
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    const double rate = static_cast<double>((step - first) * tokens_per_step()) / seconds;
    folder_.append_timing(timing_line(step, rate));
    if (!observer_.stepped) return;
    observer_.stepped(
        {.step = step,
         .steps = config_.steps,
         .tokens = tokens,
         .result = result,
         .tokens_per_second = rate,
         .seconds_left = static_cast<double>((config_.steps - step) * tokens_per_step()) / rate,
         .flops_per_second = rate * model::training_flops(config_.model, config_.data.sequence_length)});
  }

  void validate_if_due(std::int64_t step) {
    if (!(step == 0 || due(config_.validation_every, step))) return;
    for (const auto& [name, dataset] : data_.validation) validate(step, name, *dataset);
  }

  void validate(std::int64_t step, const std::string& name, const data::Dataset& dataset) {
    const auto rows = config_.micro_batch_size;
    auto instances = dataset.size();
    if (config_.validation_batches != 0) instances = std::min(instances, config_.validation_batches * rows);
    ScoreResult sum;
    std::int64_t predicted = 0, bytes = 0;
    for (std::int64_t i = 0; i < instances; i += rows) {
      const auto batch = data::assemble_sequential(dataset, i, std::min(rows, instances - i), options_);
      const auto scored = trainer_.score(batch);
      sum.loss += scored.loss;
      sum.saturated += scored.saturated;
      predicted += batch.predicted;
      bytes += data::text_bytes(batch.targets, token_bytes_);
    }
    const Validation v{.step = step,
                       .tokens = step * tokens_per_step(),
                       .source = data_.names_sources() ? name : "",
                       .loss = sum.loss / static_cast<double>(predicted),
                       .bits_per_byte = data::bits_per_byte(sum.loss, bytes),
                       .saturated = sum.saturated};
    folder_.append_metrics(validation_line(v));
    if (observer_.validated) observer_.validated(v);
  }

  const RunConfig& config_;
  const Observer& observer_;
  RunFolder& folder_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  Datasets data_;
  data::Order order_;
  std::vector<std::int32_t> token_bytes_;
  Trainer trainer_;
  data::BatchOptions options_, training_options_;
  std::optional<data::Loader> loader_;  // its threads read what is above: it goes first
  Clock::time_point begin_;
};

}  // namespace

RunOutcome run(const Backend& backend, RunConfig config, const Observer& observer) {
  complete_model(config, *text::load_tokenizer(config.data.tokenizer));
  RunFolder folder(config);
  if (folder.complete()) return RunOutcome::already_complete;
  Run(backend, config, observer, folder).run();
  return RunOutcome::finished;
}

}  // namespace braid::train
