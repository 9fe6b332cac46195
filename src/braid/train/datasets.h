// What a run trains on and validates with, opened as its recipe's [data] table says.
#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "braid/data/dataset.h"
#include "braid/train/data_config.h"

namespace braid::train {

using NoticeFunction = std::function<void(const std::string&)>;  // one line; may be empty

struct Datasets {
  std::unique_ptr<data::Dataset> train, validation;                   // null where there is none
  nlohmann::ordered_json contents = nlohmann::ordered_json::array();  // tokens and content hash of every file
};

Datasets open_datasets(const DataConfig& config, std::uint64_t seed, const text::Tokenizer& tokenizer,
                       const NoticeFunction& notice);

}  // namespace braid::train
