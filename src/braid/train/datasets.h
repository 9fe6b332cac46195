// What a run trains on and validates with, opened as its recipe's [data] table says.
#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "braid/data/dataset.h"
#include "braid/train/data_config.h"

namespace braid::train {

using NoticeFunction = std::function<void(const std::string&)>;  // one line; may be empty
using StopFunction = std::function<bool()>;                      // whether to stop is asked for; may be empty

// Thrown by what prepares a run when it is to stop. What is on disk by then is whole, and is gone on with.
struct Stopped {};
inline void stop_if(const StopFunction& requested) {
  if (requested && requested()) throw Stopped{};
}

struct NamedDataset {
  std::string name;
  std::unique_ptr<data::Dataset> dataset;
};

struct Datasets {
  std::unique_ptr<data::Dataset> train;  // null where preferences are trained on
  std::vector<NamedDataset> validation;  // may be empty
  // Tokens and content hash of every file (without a sidecar that of a sample), and the hash of a label mask
  // where there is one.
  nlohmann::ordered_json contents = nlohmann::ordered_json::array();

  std::int64_t validation_instances() const;
  // Whether validations are told apart by name.
  bool names_sources() const {
    return validation.size() > 1 || (!validation.empty() && validation[0].name != kDefaultValidation);
  }
};

Datasets open_datasets(const DataConfig& config, std::uint64_t seed, const text::Tokenizer& tokenizer,
                       const NoticeFunction& notice, const StopFunction& stop = {});

}  // namespace braid::train
