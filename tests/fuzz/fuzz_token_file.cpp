// Token files and their sidecars from anywhere. The first byte chooses the reading and the vocabulary;
// whatever follows must be refused with braid::Error or read within bounds.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "braid/data/batches.h"
#include "check.h"

namespace {

using namespace braid::data;
using braid::fuzz::check;

// A file in memory under a path without an ending, so that no sidecar is looked for beside it.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view content) : fd_(::memfd_create("tokens", 0)) {
    const bool written =
        ::write(fd_, content.data(), content.size()) == static_cast<::ssize_t>(content.size());
    check(fd_ >= 0 && written, "memory for the input");
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  fs::path path() const { return fmt::format("/proc/self/fd/{}", fd_); }

 private:
  int fd_;
};

void read_tokens(std::string_view content, TokenWidth width, std::int64_t vocabulary_size) {
  const MemoryFile memory(content);
  TokenFile file(memory.path(), {.width = width, .vocabulary_size = vocabulary_size});
  check(file.size() * static_cast<std::int64_t>(width) == static_cast<std::int64_t>(content.size()),
        "every byte belongs to a token");
  const TokenId end_of_text = static_cast<TokenId>(vocabulary_size - 1);
  check(file.scan(end_of_text).largest < vocabulary_size, "ids are inside the vocabulary");
  std::vector<TokenFile> files;
  files.push_back(std::move(file));
  const FixedLengthDataset dataset(std::move(files), 4);
  const Batch batch = assemble_sequential(
      dataset, 0, dataset.size(), {.end_of_text = end_of_text, .document_masking = DocumentMasking::yes});
  check(batch.segment_offsets.back() == static_cast<std::int32_t>(batch.ids.size()),
        "segments cover the batch");
  for (std::size_t i = 1; i < batch.segment_offsets.size(); ++i) {
    check(batch.segment_offsets[i - 1] < batch.segment_offsets[i], "segments are not empty");
  }
}

// What is accepted must be written back and read again to the same text.
void read_sidecar(std::string_view json) {
  const std::string written = format_token_file_info(parse_token_file_info(json, "fuzz.json"));
  check(format_token_file_info(parse_token_file_info(written, "fuzz.json")) == written,
        "parse and format agree");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view content(reinterpret_cast<const char*>(data) + 1, size - 1);
  braid::fuzz::accept_errors([&] {
    if (data[0] % 4 == 0) {
      read_sidecar(content);
    } else {
      const TokenWidth width = data[0] % 2 == 0 ? TokenWidth::u16 : TokenWidth::u32;
      read_tokens(content, width, data[0] % 4 == 3 ? std::int64_t{0x7FFFFFFF} : std::int64_t{257});
    }
  });
  return 0;
}
