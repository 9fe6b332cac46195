#include "braid/train/run.h"

#include <algorithm>
#include <chrono>

#include "braid/data/text_bytes.h"
#include "braid/model/counts.h"
#include "braid/train/datasets.h"
#include "braid/train/initial_state.h"
#include "braid/train/metrics.h"
#include "braid/train/objective.h"
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
        token_bytes_(data::token_bytes(*tokenizer_)),
        trainer_(backend, config) {
    options_ = {.end_of_text = tokenizer_->end_of_text().value_or(-1),
                .document_masking =
                    config.data.document_masking ? data::DocumentMasking::yes : data::DocumentMasking::no};
    objective_ = make_objective(config, data_, *tokenizer_, options_, observer.noticed);
    if (auto more = objective_->contents(); !more.is_null()) data_.contents.push_back(std::move(more));
  }

  void run() {
    folder_.bind_data(data_.contents.dump());
    const std::int64_t first = start();
    if (observer_.started) observer_.started(summary(first));
    if (first == 0) validate_if_due(0);
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
    objective_->prepare(trainer_, observer_.noticed);
    trainer_.continue_after(initial_updates(config_));
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
            .instances = objective_->instances(),
            .validation_instances = data_.validation ? data_.validation->size() : 0,
            .first_step = first,
            .memory = trainer_.memory_plan(),
            .flops_per_token = model::training_flops(config_.model, config_.data.sequence_length)};
  }

  void advance(std::int64_t step, std::int64_t first) {
    const auto position = (step - 1) * config_.batch_size;
    auto batch = objective_->assemble(position, config_.batch_size);
    const auto more = objective_->weigh(trainer_, batch, position);
    const auto result = trainer_.step(batch, step);
    const auto tokens = step * tokens_per_step();
    folder_.append_metrics(step_line(step, tokens, result, more));
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
    if (!data_.validation || !(step == 0 || due(config_.validation_every, step))) return;
    const auto rows = config_.micro_batch_size;
    auto instances = data_.validation->size();
    if (config_.validation_batches != 0) instances = std::min(instances, config_.validation_batches * rows);
    ScoreResult sum;
    std::int64_t predicted = 0, bytes = 0;
    for (std::int64_t i = 0; i < instances; i += rows) {
      const auto batch =
          data::assemble_sequential(*data_.validation, i, std::min(rows, instances - i), options_);
      const auto scored = trainer_.score(batch);
      sum.loss += scored.loss;
      sum.saturated += scored.saturated;
      predicted += batch.predicted;
      bytes += data::text_bytes(batch.targets, token_bytes_);
    }
    const Validation v{.step = step,
                       .tokens = step * tokens_per_step(),
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
  std::vector<std::int32_t> token_bytes_;
  Trainer trainer_;
  data::BatchOptions options_;
  std::unique_ptr<Objective> objective_;
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
