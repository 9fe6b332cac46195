#include "braid/data/label_mask.h"

#include <algorithm>
#include <cstring>

#include "braid/data/hash.h"

namespace braid::data {

fs::path label_mask_path(const fs::path& token_file) {
  return fs::path(token_file).replace_extension(".mask");
}

LabelMask::LabelMask(const fs::path& path, std::int64_t tokens) : file_(path) {
  require(static_cast<std::int64_t>(file_.bytes().size()) == tokens,
          "{}: a label mask of {} bytes for {} tokens; it has one byte for each token", path.string(),
          file_.bytes().size(), tokens);
}

std::string LabelMask::hash() const { return Hash64().update(file_.bytes()).hex(); }

void LabelMask::read(std::int64_t first, std::span<std::uint8_t> labels) const {
  const auto size = static_cast<std::int64_t>(file_.bytes().size());
  const auto count = static_cast<std::int64_t>(labels.size());
  require(first >= 0 && first <= size && count <= size - first, "{}: labels {} to {} are outside its {}",
          path().string(), first, first + count, size);
  if (labels.empty()) return;
  std::memcpy(labels.data(), file_.bytes().data() + first, labels.size());
  const auto bad = std::ranges::find_if(labels, [](std::uint8_t label) { return label > 1; });
  require(bad == labels.end(), "{}: byte {} is {}, expected 0 or 1; is this a label mask?", path().string(),
          first + (bad - labels.begin()), bad == labels.end() ? 0 : *bad);
}

}  // namespace braid::data
