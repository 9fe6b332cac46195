// The [model] table of a recipe.
#pragma once
#include "braid/model/language_model.h"
#include "braid/train/fields.h"
#include "braid/train/starting_point.h"

namespace braid::train {

struct ModelTable {
  model::ModelConfig config;
  StartingPoint start;  // empty: initial values
};

// A preset, a config.json, sizes with a variant; or the model that another stage left (start_from,
// directory). Whichever it is, rope, [model.yarn] and max_positions may change how it treats positions.
ModelTable read_model_table(const io::TomlFields& table, std::int64_t sequence_length);

}  // namespace braid::train
