// Where a stage begins: the weights, and if wanted the optimiser state, that another stage left.
#pragma once
#include "braid/train/fields.h"

namespace braid::train {

struct StartingPoint {
  fs::path weights;    // a model directory; empty: initial values
  fs::path optimizer;  // a checkpoint; empty: a fresh optimiser
};

enum class OptimizerState : std::uint8_t { fresh, carried };

// `from` is a run folder (its final model, or where the optimiser state is carried over its newest
// checkpoint), a checkpoint folder, or a model directory. Throws, naming the folder and what it lacks, or the
// run's checkpoint that is damaged.
StartingPoint find_start(const fs::path& from, OptimizerState optimizer);

}  // namespace braid::train
