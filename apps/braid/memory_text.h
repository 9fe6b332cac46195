// A training run's memory plan in words.
#pragma once
#include <string>

#include "braid/train/memory_plan.h"

namespace braid::app {

// A table of bytes, and what the blocks keep; the last line has no line break.
std::string memory_text(const train::MemoryPlan& plan);

}  // namespace braid::app
