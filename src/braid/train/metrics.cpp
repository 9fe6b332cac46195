#include "braid/train/metrics.h"

#include <nlohmann/json.hpp>

namespace braid::train {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

std::string step_line(std::int64_t step, std::int64_t tokens, const StepResult& result, const Json& more) {
  Json line{{"step", step}, {"tokens", tokens}};
  if (result.measured()) {
    line["loss"] = result.loss;
    line["z_loss"] = result.z_loss;
    line["gradient_norm"] = result.gradient_norm;
  }
  line["learning_rate"] = result.learning_rate;
  line["loss_spikes"] = result.loss_spikes;
  line["gradient_norm_spikes"] = result.gradient_norm_spikes;
  line["saturated"] = result.saturated;
  if (result.skipped) line["skipped"] = true;
  if (more.is_object()) line.update(more);
  return line.dump();
}

std::string validation_line(const Validation& v) {
  Json line{{"step", v.step},
            {"tokens", v.tokens},
            {"validation_loss", v.loss},
            {"validation_bits_per_byte", v.bits_per_byte},
            {"validation_saturated", v.saturated}};
  if (!v.source.empty()) line["source"] = v.source;
  return line.dump();
}

std::string timing_line(const StepProgress& p) {
  const Json line{{"step", p.step},
                  {"tokens_per_second", p.tokens_per_second},
                  {"seconds", p.seconds},
                  {"seconds_waited_for_data", p.seconds_waited_for_data}};
  return line.dump();
}

}  // namespace braid::train
