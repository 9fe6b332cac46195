// safetensors files and folders of them (one file, or shards with an index).
// Format: u64 little-endian header length, JSON header {name: {dtype, shape, data_offsets}}, data.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "braid/core/tensor.h"
#include "braid/io/files.h"

namespace braid::io {

struct NamedTensor {
  std::string name;
  ConstTensor tensor;
};

// Parses the header of a safetensors image. Trusts nothing: header length cap (100 MB), checked arithmetic,
// no overlaps, no holes, no duplicate keys, offsets inside the data, dtype x shape = bytes, rank <= 5,
// name and dtype known (F32 F64 BF16 F16 I32 I64 U8 BOOL-as-u8). `source` names the file in errors.
// Tensors point into `image`.
struct SafetensorsView {
  std::vector<NamedTensor> tensors;  // in file order of their data
  std::map<std::string, std::string> metadata;
};
SafetensorsView parse_safetensors(std::span<const std::byte> image, const std::string& source);

// All tensors of PATH: a .safetensors file, or a folder with STEM.safetensors or
// STEM.safetensors.index.json and its shards (each tensor must be where the index says; names may not
// repeat).
class TensorFiles {
 public:
  explicit TensorFiles(const fs::path& path, const std::string& stem = "model");
  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  // Null when absent.
  const ConstTensor* find(const std::string& name) const;
  // Throws, naming the folder and the tensor, when absent.
  const ConstTensor& at(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const fs::path& path() const { return path_; }
  std::vector<fs::path> file_paths() const;

 private:
  fs::path path_;
  std::vector<MappedFile> files_;
  std::vector<NamedTensor> tensors_;
  std::map<std::string, std::size_t> index_;
  std::map<std::string, std::string> metadata_;
};

// Writes one file, atomically and durably. Names unique, tensors contiguous host memory.
void write_safetensors(const fs::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
// XXH3 of each tensor's bytes, by name, as they were in memory when they were written (checksums.h).
using TensorChecksums = std::map<std::string, std::string>;

// Fills a tensor of host memory that is about to be written; its contents are not kept beyond that.
using TensorContents = std::function<ConstTensor(const NamedTensor& tensor)>;
// Writes STEM.safetensors, or, when the tensors exceed max_shard_bytes (0 = never shard),
// STEM-00001-of-0000N.safetensors with STEM.safetensors.index.json (index written last). A tensor is never
// cut: one larger than max_shard_bytes has a shard to itself.
TensorChecksums write_tensor_folder(const fs::path& folder, const std::vector<NamedTensor>& tensors,
                                    std::size_t max_shard_bytes, const std::string& stem = "model");
// The same where the tensors have shapes only (data null) and their contents are made one by one, in this
// order.
TensorChecksums write_tensor_folder(const fs::path& folder, const std::vector<NamedTensor>& tensors,
                                    std::size_t max_shard_bytes, const std::string& stem,
                                    const TensorContents& contents);

}  // namespace braid::io
