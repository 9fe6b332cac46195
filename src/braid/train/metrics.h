// The lines of metrics.jsonl and timing.jsonl (docs/files.md).
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "braid/train/run.h"

namespace braid::train {

std::string step_line(std::int64_t step, std::int64_t tokens, const StepResult& result,
                      const nlohmann::ordered_json& more = nullptr);  // fields of the objective
std::string validation_line(const Validation& validation);
std::string timing_line(const StepProgress& progress);

}  // namespace braid::train
