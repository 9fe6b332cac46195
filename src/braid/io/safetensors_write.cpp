#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_set>

#include "braid/io/checksums.h"
#include "braid/io/quote.h"
#include "braid/io/safetensors.h"
#include "braid/io/safetensors_header.h"

namespace braid::io {
namespace {

std::string single_name(const std::string& stem) { return stem + ".safetensors"; }
std::string index_name(const std::string& stem) { return stem + ".safetensors.index.json"; }

void check_tensors(const fs::path& path, const std::vector<NamedTensor>& tensors) {
  std::unordered_set<std::string> names;
  for (const auto& [name, tensor] : tensors) {
    require(!name.empty() && name != "__metadata__", "cannot write {}: {} cannot name a tensor",
            path.string(), in_quotes(name));
    require(names.insert(name).second, "cannot write {}: tensor {} occurs twice", path.string(),
            in_quotes(name));
  }
}

// What tensors that are already there hold.
ConstTensor as_it_is(const NamedTensor& t) { return t.tensor; }

// The given order, unless it would leave a tensor unaligned (the format has no padding between tensors): then
// larger element types go first.
std::vector<NamedTensor> aligned_order(std::vector<NamedTensor> tensors) {
  std::size_t at = 0;
  const bool aligned = std::all_of(tensors.begin(), tensors.end(), [&](const NamedTensor& t) {
    const bool ok = at % size_of(t.tensor.dtype) == 0;
    at += t.tensor.bytes();
    return ok;
  });
  if (!aligned) {
    std::stable_sort(tensors.begin(), tensors.end(), [](const NamedTensor& a, const NamedTensor& b) {
      return size_of(a.tensor.dtype) > size_of(b.tensor.dtype);
    });
  }
  return tensors;
}

// Length and JSON, padded with spaces so that the data starts at a multiple of 8.
std::string header_of(const fs::path& path, const std::vector<NamedTensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t at = 0;
  for (const auto& [name, tensor] : tensors) {
    nlohmann::json shape = nlohmann::json::array();
    for (int i = 0; i < tensor.shape.rank; ++i) shape.push_back(tensor.shape[i]);
    header[name] = {{"dtype", safetensors_name_of(tensor.dtype)},
                    {"shape", std::move(shape)},
                    {"data_offsets", {at, at + tensor.bytes()}}};
    at += tensor.bytes();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    fail("cannot write {}: a tensor name or metadata is not valid UTF-8", path.string());
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

// Consecutive runs of the tensors, each as long as fits into max_shard_bytes, at least one tensor each.
std::vector<std::vector<NamedTensor>> split_shards(const std::vector<NamedTensor>& tensors,
                                                   std::size_t max_shard_bytes) {
  std::vector<std::vector<NamedTensor>> shards(1);
  std::size_t used = 0;
  for (const NamedTensor& t : tensors) {
    const std::size_t bytes = t.tensor.bytes();
    if (!shards.back().empty() && (used >= max_shard_bytes || bytes > max_shard_bytes - used)) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().push_back(t);
    used += bytes;
  }
  return shards;
}

// Names that no file in the folder has yet: the shards of the present index stay whole until the new index
// replaces it. The first choice is the usual model-00001-of-0000N.safetensors.
std::vector<std::string> shard_names(const fs::path& folder, std::size_t count, const std::string& stem) {
  for (int generation = 1;; ++generation) {
    const std::string numbered = generation == 1 ? stem : fmt::format("{}-g{}", stem, generation);
    std::vector<std::string> names;
    for (std::size_t i = 1; i <= count; ++i) {
      names.push_back(fmt::format("{}-{:05}-of-{:05}.safetensors", numbered, i, count));
    }
    if (std::none_of(names.begin(), names.end(),
                     [&](const std::string& n) { return fs::exists(folder / n); })) {
      return names;
    }
  }
}

// Takes `prefix` off the front of `text`, if it is there.
bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// Takes digits off the front; false when there are none.
bool take_digits(std::string_view& text) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  text.remove_prefix(digits);
  return digits > 0;
}

// STEM.safetensors, its index, or a shard as shard_names() makes them.
bool is_weight_file(std::string_view name, const std::string& stem) {
  if (name == single_name(stem) || name == index_name(stem)) return true;
  if (!take(name, stem + "-")) return false;
  if (take(name, "g") && !(take_digits(name) && take(name, "-"))) return false;
  return take_digits(name) && take(name, "-of-") && take_digits(name) && name == ".safetensors";
}

TensorChecksums write_file_of(const fs::path& path, const std::vector<NamedTensor>& tensors,
                              const std::map<std::string, std::string>& metadata,
                              const TensorContents& contents) {
  check_tensors(path, tensors);
  const std::vector<NamedTensor> ordered = aligned_order(tensors);
  AtomicFile file(path);
  file.write(header_of(path, ordered, metadata));
  TensorChecksums checksums;
  for (const auto& named : ordered) {
    const ConstTensor t = contents(named);
    require(t.device == Device::cpu && (t.data != nullptr || t.bytes() == 0),
            "cannot write {}: tensor {} is not in host memory", path.string(), in_quotes(named.name));
    require(t.dtype == named.tensor.dtype && t.shape == named.tensor.shape,
            "cannot write {}: tensor {} is {}, announced as {}", path.string(), in_quotes(named.name),
            describe(t), describe(named.tensor));
    const auto bytes = std::span(static_cast<const std::byte*>(t.data), t.bytes());
    checksums.emplace(named.name, checksum(bytes));
    file.write(bytes);
  }
  file.commit();
  return checksums;
}

// Removes weights of earlier layouts; whatever has another name is not ours.
void remove_other_layouts(const fs::path& folder, const std::set<std::string>& keep,
                          const std::string& stem) {
  std::vector<fs::path> stale;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (is_weight_file(name, stem) && !keep.contains(name)) stale.push_back(entry.path());
  }
  for (const fs::path& path : stale) {
    std::error_code error;
    fs::remove(path, error);
    require(!error, "cannot remove {}: {}", path.string(), error.message());
  }
  if (!stale.empty()) sync_folder(folder);
}

}  // namespace

void write_safetensors(const fs::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  write_file_of(path, tensors, metadata, as_it_is);
}

// One atomic step switches a reader from the old layout to the new: the rename of model.safetensors, or, for
// shards, the rename of the index or (when model.safetensors, which wins over an index, was there) its
// removal. Until then the old layout is whole, from then on the new one is. A reader that chose its files
// before the step and opens them after it may miss a file, which is an error, never a mixture.
TensorChecksums write_tensor_folder(const fs::path& folder, const std::vector<NamedTensor>& tensors,
                                    std::size_t max_shard_bytes, const std::string& stem) {
  return write_tensor_folder(folder, tensors, max_shard_bytes, stem, as_it_is);
}

TensorChecksums write_tensor_folder(const fs::path& folder, const std::vector<NamedTensor>& tensors,
                                    std::size_t max_shard_bytes, const std::string& stem,
                                    const TensorContents& contents) {
  const std::map<std::string, std::string> metadata{{"format", "pt"}};
  check_tensors(folder, tensors);
  require(fs::is_directory(folder), "cannot write weights into {}: not a folder", folder.string());
  std::vector<std::vector<NamedTensor>> shards{tensors};
  if (max_shard_bytes != 0) shards = split_shards(tensors, max_shard_bytes);
  if (shards.size() == 1) {
    auto checksums = write_file_of(folder / single_name(stem), tensors, metadata, contents);
    remove_other_layouts(folder, {single_name(stem)}, stem);
    return checksums;
  }

  const std::vector<std::string> names = shard_names(folder, shards.size(), stem);
  nlohmann::json weight_map = nlohmann::json::object();
  TensorChecksums checksums;
  std::size_t total = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    checksums.merge(write_file_of(folder / names[i], shards[i], metadata, contents));
    for (const auto& [name, tensor] : shards[i]) weight_map[name] = names[i], total += tensor.bytes();
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  write_file(folder / index_name(stem), index.dump(2) + "\n");
  std::set<std::string> keep(names.begin(), names.end());
  keep.emplace(index_name(stem));
  remove_other_layouts(folder, keep, stem);
  return checksums;
}

}  // namespace braid::io
