// Label masks: which tokens of a token file may be predicted. The layout is OLMo-core's: a flat file of one
// byte per token, 1 where the token may be a target and 0 where it may not.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "braid/io/files.h"

namespace braid::data {

namespace fs = std::filesystem;

fs::path label_mask_path(const fs::path& token_file);  // NAME.u16 → NAME.mask

// A memory-mapped label mask for a file of `tokens` tokens.
class LabelMask {
 public:
  LabelMask(const fs::path& path, std::int64_t tokens);

  const fs::path& path() const { return file_.path(); }
  // Labels of tokens [first, first + labels.size()). A byte that is not 0 or 1 is an error that names it.
  void read(std::int64_t first, std::span<std::uint8_t> labels) const;
  std::string hash() const;  // Hash64 of its bytes; reads them all

 private:
  io::MappedFile file_;
};

}  // namespace braid::data
