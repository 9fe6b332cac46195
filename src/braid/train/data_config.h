// The [data] table of a recipe.
#pragma once
#include <string>
#include <vector>

#include "braid/train/fields.h"

namespace braid::train {

struct DataConfig {
  std::vector<fs::path> documents;          // tokenised into `folder` when given
  std::vector<fs::path> train, validation;  // token files otherwise
  fs::path folder;
  std::string tokenizer = "byte";  // "byte", a tokenizer.json or a model directory
  double validation_fraction = 0.02;
  std::int64_t sequence_length = 512;
  bool document_masking = false;
  std::vector<fs::path> preferences;  // pairs in JSON Lines, for train.objective = "dpo"; then no train
};

// `run_folder`: token files are built below it unless the table says otherwise.
DataConfig read_data_config(const io::TomlFields& table, const fs::path& run_folder);

}  // namespace braid::train
