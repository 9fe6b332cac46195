#include "braid/train/metrics.h"

#include <nlohmann/json.hpp>

namespace braid::train {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

std::string step_line(std::int64_t step, std::int64_t tokens, const StepResult& result, const Json& more) {
  Json line{{"step", step},
            {"tokens", tokens},
            {"loss", result.loss},
            {"z_loss", result.z_loss},
            {"gradient_norm", result.gradient_norm},
            {"learning_rate", result.learning_rate},
            {"saturated", result.saturated}};
  if (more.is_object()) line.update(more);
  return line.dump();
}

std::string validation_line(const Validation& v) {
  const Json line{{"step", v.step},
                  {"tokens", v.tokens},
                  {"validation_loss", v.loss},
                  {"validation_bits_per_byte", v.bits_per_byte},
                  {"validation_saturated", v.saturated}};
  return line.dump();
}

std::string timing_line(std::int64_t step, double tokens_per_second) {
  return Json{{"step", step}, {"tokens_per_second", tokens_per_second}}.dump();
}

}  // namespace braid::train
