// What lies beside token files: mix lists, lists of document bounds, label masks. The first byte chooses.
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "braid/data/document_bounds.h"
#include "braid/data/mix_list.h"
#include "check.h"

namespace {

using namespace braid::data;
using braid::fuzz::check;

constexpr std::int64_t kTokens = 64;

// A file that goes away; by its name the lines of bounds are plain or gzip.
class InputFile {
 public:
  InputFile(std::string_view content, const char* ending)
      : path_(fs::temp_directory_path() / fmt::format("braid-fuzz-{}{}", ::getpid(), ending)) {
    braid::io::write_file(path_, content);
  }
  ~InputFile() { fs::remove(path_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

void read_mix(std::string_view content) {
  const auto entries = parse_mix_list(content, "fuzz.txt", {.base = "base", .tokenizer = "name"});
  check(!entries.empty(), "a mix has entries");
  for (const MixEntry& entry : entries) {
    check(entry.path.string().starts_with("base/"), "paths begin with the base");
    check(entry.path.string().find('\0') == std::string::npos, "paths are whole");
  }
}

void read_bounds(std::string_view content, const char* ending) {
  const InputFile file(content, ending);
  std::int64_t covered = 0;
  for (const DocumentBounds& d : read_document_bounds(file.path(), kTokens)) {
    check(covered <= d.begin && d.begin < d.end && d.end <= kTokens, "documents are in order and inside");
    covered = d.end;
  }
}

void read_mask(std::string_view content) {
  const InputFile file(content, ".mask");
  std::vector<std::uint8_t> labels(content.size());
  LabelMask(file.path(), static_cast<std::int64_t>(content.size())).read(0, labels);
  for (const std::uint8_t label : labels) check(label <= 1, "labels are 0 or 1");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view content(reinterpret_cast<const char*>(data) + 1, size - 1);
  braid::fuzz::accept_errors([&] {
    if (data[0] % 4 == 0) read_mix(content);
    if (data[0] % 4 == 1) read_bounds(content, ".csv");
    if (data[0] % 4 == 2) read_bounds(content, ".csv.gz");
    if (data[0] % 4 == 3) read_mask(content);
  });
  return 0;
}
