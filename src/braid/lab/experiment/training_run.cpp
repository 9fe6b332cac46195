#include "braid/lab/experiment/training_run.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "braid/data/loader.h"
#include "braid/io/append_file.h"
#include "braid/lab/experiment/answers.h"
#include "braid/lab/experiment/growing_trainer.h"
#include "braid/lab/experiment/lab_tokenizer.h"
#include "braid/model/counts.h"
#include "braid/model/weights.h"
#include "braid/train/checkpoint_writer.h"

namespace braid::lab {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

const fs::path& made(const fs::path& folder) {
  fs::create_directories(folder / "checkpoints");
  return folder;
}

nlohmann::json to_json(const CurriculumState& s) {
  return {{"stage", s.stage}, {"began", s.began}, {"streak", s.streak}, {"finished", s.finished}};
}

CurriculumState parse_curriculum(const io::Fields& f, std::size_t stages) {
  return {.stage = static_cast<std::size_t>(f.integer("stage", 0, static_cast<std::int64_t>(stages) - 1)),
          .began = f.integer("began", 0),
          .streak = f.integer("streak", 0),
          .finished = f.boolean("finished")};
}

std::string state_file(const train::CheckpointFolder& from) {
  return (from.path / "training_state.json").string();
}

class TrainingRun {
 public:
  TrainingRun(const Backend& backend, const Experiment& experiment, const RunSpec& spec, const Store& store,
              const RunObserver& observer)
      : experiment_(experiment),
        spec_(spec),
        store_(store),
        observer_(observer),
        folder_(made(store.folder_of(spec))),
        data_(experiment, spec.seed),
        tokenizer_(*experiment.problem, experiment.form),
        trainer_(backend, experiment.training(spec)),
        answers_(backend, experiment, trainer_.config().model, trainer_->activations()),
        metrics_(folder_ / "metrics.jsonl"),
        timing_(folder_ / "timing.jsonl"),
        checkpoints_(folder_ / "checkpoints", trainer_.config()) {}

  RunOutcome run() {
    start();
    std::string failure;
    while (step_ < experiment_.steps && !state_.finished) {
      try {
        if (observer_.stop_requested && observer_.stop_requested()) return stop();
        advance();
        if (step_ % experiment_.check_every == 0 || step_ == experiment_.steps) check();
      } catch (const train::NotFinite& error) {
        failure = error.what();
        break;
      }
      report(checkpoints_.poll());
    }
    report(checkpoints_.wait());
    finish(failure);
    return RunOutcome::finished;
  }

 private:
  void notice(const std::string& line) const {
    if (observer_.noticed) observer_.noticed(fmt::format("{}: {}", spec_.name(), line));
  }
  const Stage& stage() const { return experiment_.curriculum.stages[state_.stage]; }

  void start() {
    std::vector<train::DamagedCheckpoint> damaged;
    for (const auto& listed : train::list_checkpoints(checkpoints_.folder(), damaged)) {
      try {
        restore(train::verified_checkpoint(listed.path));
        break;
      } catch (const std::exception& error) {
        damaged.push_back({listed.path, error.what()});
      }
    }
    for (const auto& d : damaged) {
      notice("passed over a damaged checkpoint: " + d.error);
      checkpoints_.discard(d.path);
    }
    if (step_ == 0 && !damaged.empty()) reset();
    if (step_ == 0) metrics_.truncate(0);
    if (step_ != 0) notice(fmt::format("goes on after step {}", step_));
    first_step_ = saved_ = step_;
    begin_ = saved_at_ = Clock::now();
  }

  void restore(const train::CheckpointFolder& from) {
    const auto source = state_file(from);
    const io::Fields lab(from.state.trainer, source, "trainer");
    const auto state = parse_curriculum(lab.object("curriculum"), experiment_.curriculum.stages.size());
    const auto trainer = train::parse_trainer_state(lab.object("trainer"));
    require(metrics_.bytes() >= from.state.metrics_bytes, "{}: is shorter than at the checkpoint of step {}",
            metrics_.path().string(), from.state.step);
    loss_ = lab.number("loss");
    const train::StepTally tally{.loss_sum = lab.number("sum"), .steps = lab.integer("summed", 0)};
    train::load_checkpoint({&trainer_->parameters(), &trainer_->first_moment(), &trainer_->second_moment()},
                           from, trainer_.config().model);
    trainer_->restore(trainer);
    trainer_->set_tally(tally);
    trainer_->parameters_changed();
    metrics_.truncate(from.state.metrics_bytes);
    state_ = state;
    step_ = from.state.step;
    tallied_from_ = step_ - tally.steps;
  }

  // Loading a damaged checkpoint may have left a mixture.
  void reset() {
    const auto& p = trainer_->parameters();
    model::initialize(p.tree(), trainer_.config().model, trainer_.config().seed, p.memory());
    for (const auto* moment : {&trainer_->first_moment(), &trainer_->second_moment()}) {
      p.memory().zero(moment->flat().mutable_data(), moment->flat().bytes());
    }
    trainer_->restore({});
    trainer_->set_tally({});
    trainer_->parameters_changed();
    state_ = {};
    loss_ = 0;
    tallied_from_ = 0;
  }

  void advance() {
    if (!loader_) {
      loader_.emplace(
          [this, stage = state_.stage](std::int64_t step) { return data_.training_batch(step, stage); },
          step_ + 1, experiment_.steps, data::LoaderOptions{.threads = 1, .ahead = 4});
    }
    const auto batch = loader_->next();
    // An example may be longer than a row: positions are planned for the longest.
    trainer_.fit(batch.longest_segment).enqueue(batch, step_ + 1);
    ++step_;
  }

  // What the steps since the last check came to. Throws where one of them was not finite, with step_ set to
  // the one before it.
  train::StepTally observed() {
    const auto tally = trainer_->tally();
    if (tally.failed_step != 0) {
      const auto failed = tallied_from_ + tally.failed_step;
      step_ = failed - 1;
      trainer_->fail_step(data_.training_batch(failed, state_.stage), failed);
    }
    return tally;
  }

  void check() {
    const auto tally = observed();
    if (tests_stage_ != state_.stage) {
      tests_ = answers_.packed(data_.held_out(state_.stage));
      tests_stage_ = state_.stage;
    }
    loss_ = tally.loss_sum / static_cast<double>(tally.steps);
    trainer_->set_tally({});
    tallied_from_ = step_;
    const auto correct = answers_.count_correct(trainer_->weights(), tests_);
    const CheckLine line{
        .step = step_,
        .n = stage().n,
        .loss = loss_,
        .gradient_norm = tally.gradient_norm,
        .learning_rate = train::learning_rate(trainer_.config().schedule, step_, experiment_.steps),
        .correct = correct,
        .samples = experiment_.check_samples};
    metrics_.append(line_of(line));
    log_time();
    const auto before = state_.stage;
    state_ = advanced(experiment_.curriculum, state_, step_,
                      static_cast<double>(correct) / static_cast<double>(experiment_.check_samples));
    if (state_.stage != before) loader_.reset();
    if (seconds_since(saved_at_) >= static_cast<double>(experiment_.checkpoint_seconds)) save();
    if (observer_.checked) {
      observer_.checked({.check = line,
                         .first_step = first_step_,
                         .steps = experiment_.steps,
                         .seconds = seconds_since(begin_)});
    }
  }

  void log_time() {
    const nlohmann::ordered_json line{{"step", step_}, {"seconds", seconds_since(begin_)}};
    timing_.append(line.dump() + "\n");
  }

  void save() {
    try {
      trainer_->require_finite(step_);
    } catch (const Error&) {
      return;  // the next step meets it too, and ends the run
    }
    report(checkpoints_.wait());
    const auto tally = trainer_->tally();
    const nlohmann::json state{{"trainer", train::to_json(trainer_->state())},
                               {"curriculum", to_json(state_)},
                               {"loss", loss_},
                               {"sum", tally.loss_sum},
                               {"summed", tally.steps}};
    checkpoints_.save(*trainer_, tokenizer_,
                      {.step = step_,
                       .kind = train::CheckpointKind::ephemeral,
                       .metrics_bytes = metrics_.bytes(),
                       .arithmetic = trainer_->backend().description,
                       .micro_batch_size = experiment_.batch_size,
                       .trainer = state},
                      [this] { metrics_.sync(); });
    saved_at_ = Clock::now();
  }

  void report(const std::optional<train::CheckpointReport>& r) {
    if (!r) return;
    if (r->error.empty())
      saved_ = r->step;
    else
      notice(fmt::format("warning: the checkpoint of step {} could not be written: {}", r->step, r->error));
  }

  RunOutcome stop() {
    observed();
    report(checkpoints_.wait());
    if (saved_ != step_) {
      log_time();
      save();
      report(checkpoints_.wait());
    }
    timing_.sync();
    return RunOutcome::stopped;
  }

  void finish(const std::string& failure) {
    RunResult result{.spec = spec_,
                     .steps = step_,
                     .last_n = stage().n,
                     .parameters = model::count_parameters(trainer_.config().model).total(),
                     .loss = loss_,
                     .lengths = {},
                     .failure = failure,
                     .arithmetic = trainer_->backend().description};
    if (failure.empty()) {
      result.lengths = answers_.at_lengths(trainer_->weights(), data_);
      if (experiment_.keep_models == KeepModels::all) keep_model();
    }
    metrics_.sync();
    timing_.sync();
    store_.write(result);
    std::error_code ignored;
    fs::remove_all(checkpoints_.folder(), ignored);
  }

  void keep_model() {
    const auto to = folder_ / "model", unfinished = folder_ / ".unfinished-model";
    fs::remove_all(unfinished);
    fs::remove_all(to);  // of a process that was killed between this and its result
    const model::HostParameters host(trainer_->parameters(), trainer_.config().model);
    model::save_model(unfinished, host.tree(), trainer_.config().model, {});
    io::write_file(unfinished / tokenizer_.file_name(), tokenizer_.file_content());
    io::publish_folder(unfinished, to);
  }

  const Experiment& experiment_;
  const RunSpec spec_;
  const Store& store_;
  const RunObserver& observer_;
  fs::path folder_;
  RunData data_;
  LabTokenizer tokenizer_;
  GrowingTrainer trainer_;
  Answers answers_;
  io::AppendFile metrics_, timing_;
  train::CheckpointWriter checkpoints_;  // its thread reads what is above
  std::optional<data::Loader> loader_;

  CurriculumState state_;
  std::int64_t step_ = 0, first_step_ = 0, saved_ = 0;
  std::int64_t tallied_from_ = 0;  // the last step before those of the trainer's tally
  double loss_ = 0;                // mean of the steps before the last check
  std::vector<TestBatch> tests_;
  std::optional<std::size_t> tests_stage_;
  Clock::time_point begin_, saved_at_;
};

}  // namespace

RunOutcome run_one(const Backend& backend, const Experiment& experiment, const RunSpec& spec,
                   const Store& store, const RunObserver& observer) {
  return TrainingRun(backend, experiment, spec, store, observer).run();
}

RunResult evaluate_checkpoint(const Backend& backend, const Experiment& experiment, const RunSpec& spec,
                              const fs::path& run, const std::function<void(const std::string&)>& noticed) {
  const auto from = train::find_checkpoint(run);
  for (const auto& d : from.damaged) noticed("passed over a damaged checkpoint: " + d.error);
  const auto source = state_file(from);
  const io::Fields lab(from.state.trainer, source, "trainer");
  const auto state = parse_curriculum(lab.object("curriculum"), experiment.curriculum.stages.size());
  GrowingTrainer trainer(backend, experiment.training(spec));
  train::load_checkpoint({&trainer->parameters(), nullptr, nullptr}, from, trainer.config().model);
  trainer->parameters_changed();
  Answers answers(backend, experiment, trainer.config().model, trainer->activations());
  return {.spec = spec,
          .steps = from.state.step,
          .last_n = experiment.curriculum.stages[state.stage].n,
          .parameters = model::count_parameters(trainer.config().model).total(),
          .loss = lab.number("loss"),
          .lengths = answers.at_lengths(trainer->weights(), RunData(experiment, spec.seed)),
          .failure = {},
          .arithmetic = backend.description};
}

}  // namespace braid::lab
