#include "braid/train/run_log.h"

#include "braid/train/metrics.h"

namespace braid::train {

void RunLog::begin(std::uintmax_t metrics_bytes, std::int64_t first_step) {
  folder_.metrics().truncate(metrics_bytes);
  if (config_.tensorboard) events_ = std::make_unique<EventFile>(folder_.tensorboard(), first_step);
}

void RunLog::step(const StepProgress& p, const nlohmann::ordered_json& more) {
  const auto& r = p.result;
  folder_.metrics().append(step_line(p.step, p.tokens, r, more) + "\n");
  folder_.timing().append(timing_line(p) + "\n");
  if (events_ == nullptr) return;
  if (!r.measured()) {
    events_->append(
        p.step, {{"train/learning_rate", r.learning_rate}, {"train/tokens", static_cast<double>(p.tokens)}});
    return;
  }
  events_->append(p.step, {{"train/loss", r.loss},
                           {"train/z_loss", r.z_loss},
                           {"train/gradient_norm", r.gradient_norm},
                           {"train/learning_rate", r.learning_rate},
                           {"train/saturated", static_cast<double>(r.saturated)},
                           {"train/tokens", static_cast<double>(p.tokens)},
                           {"train/tokens_per_second", p.tokens_per_second}});
}

void RunLog::validation(const Validation& v) {
  folder_.metrics().append(validation_line(v) + "\n");
  if (events_ == nullptr) return;
  const auto tag = [&](const char* what) {
    return v.source.empty() ? fmt::format("validation/{}", what)
                            : fmt::format("validation/{}/{}", v.source, what);
  };
  events_->append(v.step, {{tag("loss"), v.loss}, {tag("bits_per_byte"), v.bits_per_byte}});
}

void RunLog::own_validation(std::int64_t step, std::int64_t tokens, const nlohmann::ordered_json& numbers) {
  nlohmann::ordered_json line{{"step", step}, {"tokens", tokens}};
  line.update(numbers);
  folder_.metrics().append(line.dump() + "\n");
  if (events_ == nullptr) return;
  for (const auto& [key, value] : numbers.items()) {
    if (value.is_number()) events_->append(step, {{"validation/preferences/" + key, value.get<double>()}});
  }
}

std::size_t RunLog::waiting() const {
  return folder_.metrics().waiting() + folder_.timing().waiting() +
         (events_ != nullptr ? events_->file().waiting() : 0);
}

}  // namespace braid::train
