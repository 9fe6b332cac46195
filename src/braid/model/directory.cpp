#include "braid/model/directory.h"

#include <array>
#include <nlohmann/json.hpp>

#include "braid/io/checksums.h"
#include "braid/io/json.h"

namespace braid::model {
namespace {

namespace fs = io::fs;

constexpr std::array kTokenizerFiles = {"tokenizer.json", "braid_tokenizer.json"};
constexpr std::array kOtherFiles = {"generation_config.json",
                                    "tokenizer_config.json",
                                    "special_tokens_map.json",
                                    "added_tokens.json",
                                    "vocab.json",
                                    "merges.txt",
                                    "chat_template.jinja"};

}  // namespace

void copy_small_files(const fs::path& from, const fs::path& to) {
  const auto copy = [&](const char* name) {
    if (!fs::exists(from / name)) return;
    io::verify_file(from / name);
    io::write_file(to / name, io::read_file(from / name));
  };
  for (const char* name : kTokenizerFiles) copy(name);
  for (const char* name : kOtherFiles) copy(name);
}

void require_same_tokenizer(const fs::path& a, const fs::path& b) {
  for (const char* name : kTokenizerFiles) {
    const bool both = fs::exists(a / name) && fs::exists(b / name);
    if (!both) continue;
    const auto first = io::read_file(a / name), second = io::read_file(b / name);
    // Spelt differently they may still say the same.
    require(first == second ||
                io::parse_json(first, (a / name).string()) == io::parse_json(second, (b / name).string()),
            "{}: is another tokenizer than that of {}", (b / name).string(), a.string());
  }
}

void publish_directory(const fs::path& output, const std::function<void(const fs::path&)>& write) {
  const bool exists = fs::exists(output);
  require(!exists || (fs::is_directory(output) && fs::is_empty(output)),
          "{}: exists and is not an empty directory; choose another output", output.string());
  auto path = fs::absolute(output).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // OUT/
  auto temporary = path;
  temporary += ".unfinished";
  require(!fs::exists(temporary), "{} is left over from an interrupted command: remove it",
          temporary.string());
  if (!path.parent_path().empty()) fs::create_directories(path.parent_path());
  try {
    write(temporary);
    if (exists) fs::remove(path);
    io::publish_folder(temporary, path);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
}

}  // namespace braid::model
