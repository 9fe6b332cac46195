// OLMo-core's mix lists: text files that name token files, one a line, "label,path" or "path". Blank lines
// and those that begin with '#' are passed over.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace braid::data {

namespace fs = std::filesystem;

struct MixEntry {
  std::string label;  // may be empty
  fs::path path;
};

struct MixOptions {
  fs::path base = {};          // folder that the paths start from; empty: they are taken as they are
  std::string tokenizer = {};  // what "{TOKENIZER}" in a path stands for, "allenai/dolma2-tokenizer" for one
};

// In the order of the lines. Errors name `source` and the line; a list without a path is one.
std::vector<MixEntry> parse_mix_list(std::string_view text, const std::string& source,
                                     const MixOptions& options);
std::vector<MixEntry> read_mix_list(const fs::path& list, const MixOptions& options);

}  // namespace braid::data
