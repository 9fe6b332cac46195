#include "braid/train/reference_scores.h"

#include <cmath>

#include "braid/data/hash.h"
#include "braid/io/safetensors.h"
#include "braid/model/config_file.h"

namespace braid::train {
namespace {

constexpr std::string_view kScores = "scores";

std::string hash_of(const ConstTensor& scores) {
  return data::Hash64().update(std::span(static_cast<const std::byte*>(scores.data), scores.bytes())).hex();
}

}  // namespace

std::string hash_initial_weights(const RunConfig& config) {
  data::Hash64 hash;
  hash.update(model::write_config(config.model, "float32"));
  if (config.initial_model.empty()) return hash.update(config.seed).hex();
  const io::TensorFiles files(config.initial_model);
  for (const auto& [name, t] : files.tensors()) {
    hash.update(name).update(name_of(t.dtype));
    hash.update(std::span(static_cast<const std::byte*>(t.data), t.bytes()));
  }
  return hash.hex();
}

std::optional<std::vector<PairScore>> read_reference_scores(const fs::path& path, const ReferenceKey& key,
                                                            std::size_t pairs) {
  if (!fs::exists(path)) return std::nullopt;
  try {
    const io::TensorFiles files(path);
    const auto& t = files.at(std::string(kScores));
    const auto& said = files.metadata();
    const bool same = t.dtype == DType::f64 && t.shape == Shape{static_cast<std::int64_t>(pairs), 2} &&
                      said.at("weights") == key.weights && said.at("data") == key.data &&
                      said.at("hash") == hash_of(t);
    if (!same) return std::nullopt;
    std::vector<PairScore> scores;
    const auto* values = t.as<double>();
    for (std::size_t i = 0; i < pairs; ++i) scores.push_back({values[2 * i], values[2 * i + 1]});
    return scores;
  } catch (const std::exception&) {
    return std::nullopt;  // it can be made again
  }
}

void write_reference_scores(const fs::path& path, const ReferenceKey& key,
                            const std::vector<PairScore>& scores) {
  std::vector<double> values;
  for (const auto& [chosen, rejected] : scores) {
    require(std::isfinite(chosen) && std::isfinite(rejected),
            "reference scores: pair {} has log-probability {}: are the weights to start from whole?",
            values.size() / 2, std::isfinite(chosen) ? rejected : chosen);
    values.insert(values.end(), {chosen, rejected});
  }
  ConstTensor t;
  t.dtype = DType::f64;
  t.shape = {static_cast<std::int64_t>(scores.size()), 2};
  t.data = values.data();
  io::write_safetensors(path, {{std::string(kScores), t}},
                        {{"weights", key.weights}, {"data", key.data}, {"hash", hash_of(t)}});
}

}  // namespace braid::train
