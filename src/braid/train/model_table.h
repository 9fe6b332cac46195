// The [model] table of a recipe.
#pragma once
#include "braid/model/language_model.h"
#include "braid/train/fields.h"

namespace braid::train {

// A preset, a config.json, a model directory, or sizes with a variant.
model::ModelConfig read_model_table(const io::TomlFields& table, std::int64_t sequence_length);

}  // namespace braid::train
