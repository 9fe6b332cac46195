// Where a run begins: sizes that the tokenizer decides, and the weights before the first step.
#pragma once
#include "braid/text/tokenizer.h"
#include "braid/train/trainer.h"

namespace braid::train {

// Sizes and special ids that the tokenizer decides, where the recipe leaves them open.
void complete_model(RunConfig& config, const text::Tokenizer& tokenizer);
// Initial values by the seed, or the weights of config.initial_model, or all that the optimiser state of
// config.initial_optimizer goes with: weights, moments, and how many updates lie behind them.
void set_initial_weights(Trainer& trainer, const RunConfig& config);

}  // namespace braid::train
