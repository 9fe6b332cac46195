// Small models of every kind, for tests of whole-model properties.
#pragma once
#include <string>
#include <vector>

#include "braid/model/parameters.h"

namespace braid::test {

struct SmallModel {
  std::string name;
  model::ModelConfig config;
};

// hybrid, grouped heads in both mixers, windows with YaRN, pure GDN without gate, NoPE with pre-norm
// attention.
std::vector<SmallModel> small_models();

// Initial values, with norms and convolutions moved away from their special ones.
model::ParameterSet small_parameters(const model::ModelConfig& config, std::uint64_t seed);

// Uniform token ids from (seed).
std::vector<std::int32_t> small_ids(std::int64_t count, std::int64_t vocabulary, std::uint64_t seed);

}  // namespace braid::test
