// Where a run begins: sizes that the tokenizer decides, and the weights before the first step.
#pragma once
#include "braid/text/tokenizer.h"
#include "braid/train/trainer.h"

namespace braid::train {

// Sizes and special ids that the tokenizer decides, where the recipe leaves them open.
void complete_model(RunConfig& config, const text::Tokenizer& tokenizer);
// Initial values by the seed, or the weights of config.initial_model, with the moments of
// config.initial_optimizer where there are some.
void set_initial_weights(Trainer& trainer, const RunConfig& config);
// Optimiser updates that lie behind those moments, for their bias correction; 0: a fresh optimiser.
std::int64_t initial_updates(const RunConfig& config);

}  // namespace braid::train
