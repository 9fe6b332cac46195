#include <set>
#include <utility>

#include "braid/io/json.h"
#include "braid/io/quote.h"
#include "braid/io/safetensors.h"

namespace braid::io {
namespace {

// A plain name in the same folder, so that an index cannot reach other files.
void check_shard_name(const std::string& shard, const std::string& tensor, const std::string& source) {
  const bool plain = !shard.empty() && shard != "." && shard != ".." &&
                     shard.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
  require(plain, "{}: weight_map places {} in {}, which is not a plain file name", source, in_quotes(tensor),
          in_quotes(shard));
}

// tensor name -> shard name
std::map<std::string, std::string> read_weight_map(const fs::path& path) {
  const nlohmann::json json = read_json(path);
  const Fields fields(json, path.string());
  const Fields weight_map = fields.object("weight_map");
  if (fields.has("metadata")) fields.object("metadata");
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, unused] : weight_map.value().items()) {
    const std::string shard = weight_map.string(tensor);
    check_shard_name(shard, tensor, path.string());
    shards.emplace(tensor, shard);
  }
  return shards;
}

}  // namespace

TensorFiles::TensorFiles(const fs::path& path, const std::string& stem) : path_(path) {
  std::map<std::string, std::string> weight_map;  // empty for a single file
  std::set<std::string> shards;
  const fs::path single = path / (stem + ".safetensors"), index = path / (stem + ".safetensors.index.json");
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    files_.emplace_back(path);
  } else if (fs::exists(single, ignored)) {  // wins over an index: see write_tensor_folder
    files_.emplace_back(single);
  } else {
    require(fs::exists(index, ignored), "{}: neither {} nor {} is there", path.string(),
            single.filename().string(), index.filename().string());
    weight_map = read_weight_map(index);
    for (const auto& [tensor, shard] : weight_map) shards.insert(shard);
    for (const std::string& shard : shards) files_.emplace_back(path / shard);
  }

  for (const MappedFile& file : files_) {
    SafetensorsView view = parse_safetensors(file.bytes(), file.path().string());
    const std::string shard = file.path().filename().string();
    for (NamedTensor& t : view.tensors) {
      if (!shards.empty()) {
        const auto placed = weight_map.find(t.name);
        require(placed != weight_map.end(), "{}: tensor {} is not in the weight_map of {}",
                file.path().string(), in_quotes(t.name), index.string());
        require(placed->second == shard, "{}: tensor {} should be in {} by the weight_map of {}",
                file.path().string(), in_quotes(t.name), in_quotes(placed->second), index.string());
      }
      index_.emplace(t.name, tensors_.size());
      tensors_.push_back(std::move(t));
    }
    metadata_.merge(view.metadata);  // of shards that disagree the first counts
  }
  for (const auto& [tensor, shard] : weight_map) {
    require(index_.contains(tensor), "{}: tensor {} is not there, but the weight_map of {} places it there",
            (path / shard).string(), in_quotes(tensor), index.string());
  }
}

std::vector<fs::path> TensorFiles::file_paths() const {
  std::vector<fs::path> paths;
  for (const MappedFile& file : files_) paths.push_back(file.path());
  return paths;
}

const ConstTensor* TensorFiles::find(const std::string& name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second].tensor;
}

const ConstTensor& TensorFiles::at(const std::string& name) const {
  const ConstTensor* tensor = find(name);
  require(tensor != nullptr, "{}: tensor {} is missing", path_.string(), in_quotes(name));
  return *tensor;
}

}  // namespace braid::io
