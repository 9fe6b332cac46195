// What a run trains on and validates with, opened as its recipe's [data] table says.
#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "braid/data/dataset.h"
#include "braid/train/data_config.h"

namespace braid::train {

using NoticeFunction = std::function<void(const std::string&)>;  // one line; may be empty

struct NamedDataset {
  std::string name;
  std::unique_ptr<data::Dataset> dataset;
};

struct Datasets {
  std::unique_ptr<data::Dataset> train;  // null where preferences are trained on
  std::vector<NamedDataset> validation;  // may be empty
  // Tokens and content hash of every file, and of a label mask where there is one.
  nlohmann::ordered_json contents = nlohmann::ordered_json::array();

  std::int64_t validation_instances() const;
  // Whether validations are told apart by name.
  bool names_sources() const {
    return validation.size() > 1 || (!validation.empty() && validation[0].name != kDefaultValidation);
  }
};

Datasets open_datasets(const DataConfig& config, std::uint64_t seed, const text::Tokenizer& tokenizer,
                       const NoticeFunction& notice);

}  // namespace braid::train
