#include "braid/train/run.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "braid/data/build_token_files.h"
#include "braid/data/text_bytes.h"
#include "braid/model/counts.h"
#include "braid/model/weights.h"
#include "braid/train/run_folder.h"

namespace braid::train {
namespace {

using Json = nlohmann::ordered_json;

struct Datasets {
  std::unique_ptr<data::FixedLengthDataset> train, validation;  // validation may be null
  Json contents = Json::array();                                // tokens and content hash of every file
};

void notice(const Observer& observer, const std::string& line) {
  if (observer.noticed) observer.noticed(line);
}

std::vector<data::TokenFile> open_files(const std::vector<fs::path>& paths,
                                        const text::Tokenizer& tokenizer) {
  std::vector<data::TokenFile> files;
  for (const auto& path : paths) {
    files.emplace_back(path, data::TokenFileOptions{
                                 .width = data::width_of_name(path)
                                              ? std::nullopt
                                              : std::optional(data::width_for(tokenizer.vocabulary_size())),
                                 .vocabulary_size = tokenizer.vocabulary_size(),
                                 .tokenizer = data::tokenizer_fingerprint(tokenizer)});
  }
  return files;
}

Datasets open_data(const RunConfig& c, const text::Tokenizer& tokenizer, const Observer& observer) {
  auto train = c.data.train, validation = c.data.validation;
  if (!c.data.documents.empty()) {
    const auto built =
        data::build_token_files(c.data.documents, tokenizer, c.data.folder,
                                {.validation_fraction = c.data.validation_fraction, .seed = c.seed});
    const auto& info = built.train_info;
    notice(observer, fmt::format("data: {} documents, {} tokens to train on{}", info.documents, info.tokens,
                                 built.reused ? " (already tokenised)" : ""));
    train = {built.train};
    if (!built.validation.empty()) validation = {built.validation};
  }
  Datasets d;
  const auto length = c.data.sequence_length;
  const auto open = [&](const std::vector<fs::path>& paths) {
    auto files = open_files(paths, tokenizer);
    for (const auto& file : files) {
      d.contents.push_back({file.size(), file.info() ? file.info()->content_hash : ""});
    }
    return std::make_unique<data::FixedLengthDataset>(std::move(files), length);
  };
  d.train = open(train);
  require(d.train->size() > 0, "data: the training tokens do not fill one sequence of {}", length);
  if (!validation.empty()) {
    d.validation = open(validation);
    require(d.validation->size() > 0, "data: the validation tokens do not fill one sequence of {}", length);
  }
  return d;
}

// Sizes that the tokenizer decides, where the recipe leaves them open.
void complete_model(RunConfig& c, const text::Tokenizer& tokenizer) {
  auto& m = c.model;
  const auto size = tokenizer.vocabulary_size();
  if (m.vocabulary_size == 0) m.vocabulary_size = (size + 63) / 64 * 64;
  require(m.vocabulary_size >= size, "model.vocabulary_size {} is smaller than the tokenizer's {}",
          m.vocabulary_size, size);
  const auto end = tokenizer.end_of_text();
  if (end && std::ranges::find(m.eos_ids, *end) == m.eos_ids.end()) {
    require(
        c.initial_model.empty() || m.eos_ids.empty(),
        "data.tokenizer: its end of text {} is not the eos_token_id of {}: give the model's own tokenizer",
        *end, c.initial_model.string());
    // A preset's special ids belong to another tokenizer.
    m.eos_ids = {*end};
    m.bos_id = m.pad_id = std::nullopt;
  }
  m.validate("model");
}

class Run {
 public:
  Run(const Backend& backend, const RunConfig& config, const Observer& observer, RunFolder& folder)
      : config_(config),
        observer_(observer),
        folder_(folder),
        tokenizer_(text::load_tokenizer(config.data.tokenizer)),
        data_(open_data(config, *tokenizer_, observer)),
        order_(config.seed, data_.train->size()),
        token_bytes_(data::token_bytes(*tokenizer_)),
        trainer_(backend, config) {
    options_ = {.end_of_text = tokenizer_->end_of_text().value_or(-1),
                .document_masking =
                    config.data.document_masking ? data::DocumentMasking::yes : data::DocumentMasking::no};
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
    if (config_.initial_model.empty()) {
      model::initialize(trainer_.parameters().tree(), config_.model, config_.seed,
                        trainer_.parameters().memory());
    } else {
      model::load_weights(trainer_.parameters().tree(), config_.model, io::TensorFiles(config_.initial_model),
                          trainer_.parameters().memory());
    }
    trainer_.parameters_changed();
    return 0;
  }

  RunSummary summary(std::int64_t first) const {
    return {.parameters = model::count_parameters(config_.model).total(),
            .tokens_per_step = tokens_per_step(),
            .instances = data_.train->size(),
            .validation_instances = data_.validation ? data_.validation->size() : 0,
            .first_step = first,
            .memory = trainer_.memory_plan(),
            .flops_per_token = model::training_flops(config_.model, config_.data.sequence_length)};
  }

  void advance(std::int64_t step, std::int64_t first) {
    const auto batch =
        data::assemble(*data_.train, order_, (step - 1) * config_.batch_size, config_.batch_size, options_);
    const auto result = trainer_.step(batch, step);
    const auto tokens = step * tokens_per_step();
    folder_.append_metrics(Json{
        {"step", step},
        {"tokens", tokens},
        {"loss", result.loss},
        {"z_loss", result.z_loss},
        {"gradient_norm", result.gradient_norm},
        {"learning_rate", result.learning_rate},
        {"saturated",
         result.saturated}}.dump());
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    const double rate = static_cast<double>((step - first) * tokens_per_step()) / seconds;
    folder_.append_timing(Json{{"step", step}, {"tokens_per_second", rate}}.dump());
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
      predicted += batch.predicted();
      bytes += data::text_bytes(batch.targets, token_bytes_);
    }
    const Validation v{.step = step,
                       .tokens = step * tokens_per_step(),
                       .loss = sum.loss / static_cast<double>(predicted),
                       .bits_per_byte = data::bits_per_byte(sum.loss, bytes),
                       .saturated = sum.saturated};
    folder_.append_metrics(Json{
        {"step", v.step},
        {"tokens", v.tokens},
        {"validation_loss", v.loss},
        {"validation_bits_per_byte", v.bits_per_byte},
        {"validation_saturated",
         v.saturated}}.dump());
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
  data::BatchOptions options_;
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
