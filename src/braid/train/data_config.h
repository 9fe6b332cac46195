// The [data] table of a recipe.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "braid/data/document_dataset.h"
#include "braid/data/repetition.h"
#include "braid/train/fields.h"

namespace braid::train {

// How instances are made of token files.
enum class DatasetKind : std::uint8_t { fixed, packed, padded };

// Where the tokens of one source come from; exactly one of the first three is given.
struct SourceConfig {
  std::string name;
  std::vector<fs::path> documents;    // tokenised first
  std::vector<fs::path> train;        // token files
  fs::path mix;                       // an OLMo-core mix list of token files
  std::vector<fs::path> label_masks;  // one for each token file, or none
  double ratio = 1, max_repetition = 1;
};

struct ValidationSourceConfig {
  std::string name;
  std::vector<fs::path> files, label_masks;
};

struct DataConfig {
  std::vector<SourceConfig> sources;  // one, or those of a mixture
  bool mixture = false;
  std::int64_t mixture_tokens = 0;  // 0: as many as the sources allow
  std::vector<ValidationSourceConfig> validation;
  fs::path folder;                 // documents are tokenised into it
  std::string tokenizer = "byte";  // "byte", a tokenizer.json or a model directory
  double validation_fraction = 0.02;
  std::int64_t sequence_length = 512;
  bool document_masking = false;
  fs::path mix_base;
  std::string mix_tokenizer;
  std::optional<data::TokenWidth> token_width;  // of files whose names do not say it; none: the vocabulary's
  DatasetKind kind = DatasetKind::fixed, validation_kind = DatasetKind::fixed;
  data::LongDocuments long_documents = data::LongDocuments::truncate;
  std::int64_t source_group_size = 1;
  std::optional<data::TokenId> pad_id;  // none: the end of text
  std::optional<data::RepetitionFilter> instance_filter;
  int loaders = 1;
  std::vector<fs::path> validation_preferences;  // held-out pairs
  std::vector<fs::path> preferences;  // pairs in JSON Lines, for train.objective = "dpo"; then no train
};

// The name of what is validated with when a recipe names no sources for it.
inline constexpr const char* kDefaultValidation = "validation";

// `run_folder`: token files are built below it unless the table says otherwise.
DataConfig read_data_config(const io::TomlFields& table, const fs::path& run_folder);

}  // namespace braid::train
