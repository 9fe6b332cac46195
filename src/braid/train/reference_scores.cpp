#include "braid/train/reference_scores.h"

#include <sys/stat.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "braid/data/hash.h"
#include "braid/io/checksums.h"
#include "braid/io/safetensors.h"
#include "braid/model/config_file.h"

namespace braid::train {
namespace {

constexpr std::string_view kScores = "scores";
constexpr const char* kWeights = "reference_weights.json";

std::string hash_of(const ConstTensor& scores) {
  return data::Hash64().update(std::span(static_cast<const std::byte*>(scores.data), scores.bytes())).hex();
}

// Size, inode, and times to the nanosecond of each file that the weights lie in.
nlohmann::ordered_json file_states(const io::TensorFiles& files) {
  auto states = nlohmann::ordered_json::object();
  for (const auto& path : files.file_paths()) {
    struct ::stat s {};
    require(::stat(path.c_str(), &s) == 0, "{}: cannot be inspected", path.string());
    states[path.string()] = {s.st_size,         s.st_dev,         s.st_ino,         s.st_mtim.tv_sec,
                             s.st_mtim.tv_nsec, s.st_ctim.tv_sec, s.st_ctim.tv_nsec};
  }
  return states;
}

std::string hash_tensors(const io::TensorFiles& files) {
  std::string all;
  for (const auto& [name, t] : files.tensors()) {
    const std::span bytes(static_cast<const std::byte*>(t.data), t.bytes());
    all += fmt::format("{} {} {} {}\n", name, name_of(t.dtype), to_string(t.shape), io::checksum(bytes));
  }
  return io::checksum(std::as_bytes(std::span(all)));
}

// What of an earlier process still holds; empty: nothing.
std::string kept_hash(const fs::path& kept, const nlohmann::ordered_json& files) {
  if (!fs::exists(kept)) return {};
  try {
    const auto json = nlohmann::ordered_json::parse(io::read_file(kept));
    return json.at("files") == files ? json.at("hash").get<std::string>() : "";
  } catch (const std::exception&) {
    return {};  // it can be made again
  }
}

std::string weights_identity(const fs::path& folder, const fs::path& kept) {
  if (const auto checksums = io::listed_tensor_checksums(folder); !checksums.empty()) {
    std::string all;
    for (const auto& [name, value] : checksums) all += name + " " + value + "\n";
    return io::checksum(std::as_bytes(std::span(all)));
  }
  const io::TensorFiles files(folder);
  const auto states = file_states(files);
  if (auto hash = kept_hash(kept, states); !hash.empty()) return hash;
  const auto hash = hash_tensors(files);
  // Files that changed while they were read are hashed again next time.
  const nlohmann::ordered_json json{{"files", states}, {"hash", hash}};
  if (file_states(files) == states) io::write_file(kept, json.dump(1) + "\n");
  return hash;
}

}  // namespace

std::string hash_initial_weights(const RunConfig& config) {
  data::Hash64 hash;
  hash.update(model::write_config(config.model, "float32"));
  if (config.initial_model.empty()) return hash.update(config.seed).hex();
  return hash.update(weights_identity(config.initial_model, config.folder / kWeights)).hex();
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
