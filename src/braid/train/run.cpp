#include "braid/train/run.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "braid/data/loader.h"
#include "braid/data/text_bytes.h"
#include "braid/model/counts.h"
#include "braid/train/checkpoint_writer.h"
#include "braid/train/datasets.h"
#include "braid/train/initial_state.h"
#include "braid/train/objective.h"
#include "braid/train/run_log.h"

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
        log_(folder, config),
        tokenizer_(text::load_tokenizer(config.data.tokenizer)),
        data_(
            open_datasets(config.data, config.seed, *tokenizer_, observer.noticed, observer.stop_requested)),
        token_bytes_(data::token_bytes(*tokenizer_)),
        trainer_(backend, config),
        checkpoints_(folder.checkpoints(), config) {
    options_ = {.end_of_text = tokenizer_->end_of_text().value_or(-1),
                .document_masking =
                    config.data.document_masking ? data::DocumentMasking::yes : data::DocumentMasking::no};
    auto training = options_;
    training.instance_filter = config.data.instance_filter;
    objective_ =
        make_objective(config, data_, *tokenizer_, training, observer.noticed, observer.stop_requested);
    if (auto more = objective_->contents(); !more.is_null()) data_.contents.push_back(std::move(more));
  }

  RunOutcome run() {
    folder_.bind_data(data_.contents.dump());
    const auto from = start();
    first_ = from.step;
    if (observer_.started) observer_.started(summary());
    if (!from.validated && !validate(first_)) return stop(first_, Validated::no);
    loader_.emplace([this](std::int64_t step) { return batch_of(step); }, first_ + 1, config_.steps,
                    data::LoaderOptions{.threads = config_.data.loaders});
    begin_ = Clock::now();
    for (auto step = first_ + 1; step <= config_.steps; ++step) {
      if (stop_requested()) return stop(step - 1, Validated::yes);
      advance(step);
      report(checkpoints_.poll());
      if (validation_due(step) && !validate(step)) return stop(step, Validated::no);
      if (const auto kind = checkpoint_due(step)) save(step, *kind, Validated::yes);
    }
    report(checkpoints_.wait());
    folder_.finish(trainer_, *tokenizer_);
    return RunOutcome::finished;
  }

 private:
  using Clock = std::chrono::steady_clock;
  enum class Validated : std::uint8_t { no, yes };

  std::int64_t tokens_per_step() const { return config_.batch_size * config_.data.sequence_length; }
  bool stop_requested() const { return observer_.stop_requested && observer_.stop_requested(); }

  bool validation_due(std::int64_t step) const {
    if (data_.validation.empty() && !objective_->validates()) return false;
    const auto every = config_.validation_every;
    return step == 0 || step == config_.steps || (every != 0 && step % every == 0);
  }
  std::optional<CheckpointKind> checkpoint_due(std::int64_t step) const {
    const auto at = [&](std::int64_t every) { return every != 0 && step % every == 0; };
    if (step == config_.steps || at(config_.checkpoint.every) || ends_period(config_.schedule, step)) {
      return CheckpointKind::permanent;
    }
    if (at(config_.checkpoint.ephemeral_every)) return CheckpointKind::ephemeral;
    return std::nullopt;
  }

  // Restores or initialises; the state begins after the last step done.
  TrainingState start() {
    objective_->prepare(trainer_, observer_.noticed, observer_.stop_requested);
    if (const auto state = restore()) {
      notice(observer_, fmt::format("resuming after step {}", state->step));
      notice_other_arithmetic(*state);
      log_.begin(state->metrics_bytes, state->step + 1);
      validation_sequences_ = state->validation_sequences;
      saved_ = state->step;
      return *state;
    }
    set_initial_weights(trainer_, config_);
    log_.begin(0, 0);
    validation_sequences_ = config_.validation_batches * config_.micro_batch_size;
    return {.validated = !validation_due(0)};
  }

  // The newest checkpoint that is whole and that the metrics reach.
  std::optional<TrainingState> restore() {
    std::vector<DamagedCheckpoint> damaged;
    std::optional<TrainingState> state;
    const auto all = list_checkpoints(folder_.checkpoints(), damaged);
    for (std::size_t i = 0; i < all.size() && !state; ++i) {
      try {
        const auto found = verified_checkpoint(all[i].path);
        require(folder_.metrics().bytes() >= found.state.metrics_bytes,
                "{}: is shorter than at the checkpoint of step {}", folder_.metrics().path().string(),
                found.state.step);
        load_checkpoint({&trainer_.parameters(), &trainer_.first_moment(), &trainer_.second_moment()}, found,
                        config_.model);
        trainer_.restore(parse_trainer_state(
            {found.state.trainer, (found.path / "training_state.json").string(), "trainer"}));
        state = found.state;
      } catch (const std::exception& error) {
        damaged.push_back({all[i].path, error.what()});
      }
    }
    for (const auto& d : damaged) {
      notice(observer_, "passed over a damaged checkpoint: " + d.error);
      checkpoints_.discard(d.path);
    }
    require(state || damaged.empty(), "{}: no checkpoint can be read ({}); repair or remove the run folder",
            config_.folder.string(), damaged.empty() ? "" : damaged.front().error);
    if (state) trainer_.parameters_changed();
    return state;
  }

  void notice_other_arithmetic(const TrainingState& state) const {
    if (const auto& now = trainer_.backend().description; now != state.arithmetic) {
      notice(observer_,
             fmt::format("the checkpoint was made on '{}', this is '{}': the last bits may differ from an "
                         "unbroken run",
                         state.arithmetic, now));
    }
    if (config_.micro_batch_size != state.micro_batch_size) {
      notice(observer_,
             fmt::format("the checkpoint was made with train.micro_batch_size {}, this is {}: gradients are "
                         "summed in another order, the last bits may differ from an unbroken run",
                         state.micro_batch_size, config_.micro_batch_size));
    }
  }

  RunSummary summary() const {
    return {.parameters = model::count_parameters(config_.model).total(),
            .tokens_per_step = tokens_per_step(),
            .instances = objective_->instances(),
            .validation_instances = data_.validation_instances(),
            .first_step = first_,
            .memory = trainer_.memory_plan(),
            .checkpoint_bytes = CheckpointWriter::buffer_bytes(config_, trainer_),
            .flops_per_token = model::training_flops(config_.model, config_.data.sequence_length)};
  }

  // Called by the loader's threads.
  data::Batch batch_of(std::int64_t step) const {
    return objective_->assemble(instances_before(config_, step), instances_in(config_, step));
  }

  void advance(std::int64_t step) {
    auto batch = loader_->next();
    nlohmann::ordered_json more;
    if (!skips(config_, step)) more = objective_->weigh(trainer_, batch, instances_before(config_, step));
    const auto result = trainer_.step(batch, step);
    const auto tokens = tokens_through(config_, step);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    const double rate = static_cast<double>(tokens - tokens_through(config_, first_)) / seconds;
    const StepProgress progress{
        .step = step,
        .steps = config_.steps,
        .tokens = tokens,
        .result = result,
        .tokens_per_second = rate,
        .seconds_left = static_cast<double>(tokens_through(config_, config_.steps) - tokens) / rate,
        .flops_per_second = rate * model::training_flops(config_.model, config_.data.sequence_length),
        .seconds = seconds,
        .seconds_waited_for_data = loader_->seconds_waited()};
    log_.step(progress, more);
    notice_full_disk();
    if (observer_.stepped) observer_.stepped(progress);
  }

  // False: a stop was asked for meanwhile, and nothing was logged.
  bool validate(std::int64_t step) {
    std::vector<Validation> all;
    for (const auto& [name, dataset] : data_.validation) {
      auto validation = score(step, name, *dataset);
      if (!validation) return false;
      all.push_back(*validation);
    }
    nlohmann::ordered_json own;
    try {
      if (objective_->validates()) own = objective_->validate(trainer_, observer_.stop_requested);
    } catch (const Stopped&) {
      return false;
    }
    for (const auto& v : all) {
      log_.validation(v);
      if (observer_.validated) observer_.validated(v);
    }
    if (!own.is_null()) {
      log_.own_validation(step, tokens_through(config_, step), own);
      notice(observer_, fmt::format("validation of the objective at step {}: {}", step, own.dump()));
    }
    return true;
  }

  std::optional<Validation> score(std::int64_t step, const std::string& name, const data::Dataset& dataset) {
    const auto rows = config_.micro_batch_size;
    auto instances = dataset.size();
    if (validation_sequences_ != 0) instances = std::min(instances, validation_sequences_);
    ScoreResult sum;
    std::int64_t predicted = 0, bytes = 0;
    for (std::int64_t i = 0; i < instances; i += rows) {
      if (stop_requested()) return std::nullopt;
      const auto batch = data::assemble_sequential(dataset, i, std::min(rows, instances - i), options_);
      const auto scored = trainer_.score(batch);
      sum.loss += scored.loss;
      sum.saturated += scored.saturated;
      predicted += batch.predicted;
      bytes += data::text_bytes(batch.targets, token_bytes_);
    }
    require(
        bytes > 0,
        "validation '{}': nothing in its {} sequences is predicted that stands for text: label masks that "
        "hold no 1, or documents of one token?",
        name, instances);
    return Validation{.step = step,
                      .tokens = tokens_through(config_, step),
                      .source = data_.names_sources() ? name : "",
                      .loss = sum.loss / static_cast<double>(predicted),
                      .bits_per_byte = data::bits_per_byte(sum.loss, bytes),
                      .saturated = sum.saturated};
  }

  // Waits for the checkpoint before this one.
  void save(std::int64_t step, CheckpointKind kind, Validated validated) {
    trainer_.require_finite(step);
    report(checkpoints_.wait());
    checkpoints_.save(trainer_, *tokenizer_,
                      {.step = step,
                       .kind = kind,
                       .validated = validated == Validated::yes,
                       .metrics_bytes = folder_.metrics().bytes(),
                       .arithmetic = trainer_.backend().description,
                       .micro_batch_size = config_.micro_batch_size,
                       .validation_sequences = validation_sequences_,
                       .trainer = to_json(trainer_.state())},
                      [&metrics = folder_.metrics()] { metrics.sync(); });
  }

  void report(const std::optional<CheckpointReport>& r) {
    if (!r) return;
    if (r->error.empty()) {
      saved_ = r->step;
      notice(observer_, fmt::format("checkpoint at step {}", r->step));
      return;
    }
    const auto before =
        saved_ ? fmt::format("the one of step {} is kept", *saved_) : "there is none before it";
    const auto line =
        fmt::format("the checkpoint of step {} could not be written: {}; {}", r->step, r->error, before);
    require(config_.checkpoint.on_error == CheckpointFailure::continues, "{}", line);
    notice(observer_, "warning: " + line + "; training goes on and tries again at the next interval");
  }

  void notice_full_disk() {
    const bool waits = log_.waiting() != 0;
    if (waits && !waiting_) {
      notice(observer_,
             fmt::format("warning: {}: no room to write; the lines wait in memory, and are lost with this "
                         "process",
                         folder_.metrics().path().string()));
    }
    waiting_ = waits;
  }

  // Leaves a checkpoint of `step`, the last one done.
  RunOutcome stop(std::int64_t step, Validated validated) {
    report(checkpoints_.wait());
    if (step != 0 && saved_ != step) {
      save(step, checkpoint_due(step).value_or(CheckpointKind::ephemeral), validated);
      const auto result = checkpoints_.wait();
      require(result->error.empty(), "stopped after step {}, but its checkpoint could not be written: {}",
              step, result->error);
      report(result);
    }
    folder_.timing().sync();
    return RunOutcome::stopped;
  }

  const RunConfig& config_;
  const Observer& observer_;
  RunFolder& folder_;
  RunLog log_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  Datasets data_;
  std::vector<std::int32_t> token_bytes_;
  Trainer trainer_;
  CheckpointWriter checkpoints_;  // its thread ends before what it reads
  data::BatchOptions options_;
  std::unique_ptr<Objective> objective_;
  std::optional<data::Loader> loader_;  // its threads read what is above: it goes first
  Clock::time_point begin_;
  std::int64_t first_ = 0;                 // the last step done by earlier processes
  std::int64_t validation_sequences_ = 0;  // 0: all
  std::optional<std::int64_t> saved_;      // the newest checkpoint
  bool waiting_ = false;                   // log lines, for room on the disk
};

}  // namespace

RunOutcome run(const Backend& backend, RunConfig config, const Observer& observer) {
  complete_model(config, *text::load_tokenizer(config.data.tokenizer));
  RunFolder folder(config);
  if (folder.complete()) return RunOutcome::already_complete;
  try {
    return Run(backend, config, observer, folder).run();
  } catch (const Stopped&) {
    return RunOutcome::stopped;  // before the first step of this process
  }
}

}  // namespace braid::train
