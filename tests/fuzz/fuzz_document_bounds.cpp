// Lists of document bounds: plain if the first byte is even, gzip if it is odd.
#include <cstdint>

#include "braid/data/document_bounds.h"
#include "check.h"
#include "input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace braid::data;
  using braid::fuzz::check;
  constexpr std::int64_t kTokens = 64;
  if (size == 0) return 0;
  const std::string_view content(reinterpret_cast<const char*>(data) + 1, size - 1);
  const braid::fuzz::InputFile file(content, data[0] % 2 == 0 ? ".csv" : ".csv.gz");
  braid::fuzz::accept_errors([&] {
    std::int64_t covered = 0;
    for (const DocumentBounds& d : read_document_bounds(file.path(), kTokens)) {
      check(covered <= d.begin && d.begin < d.end && d.end <= kTokens, "documents are in order and inside");
      covered = d.end;
    }
  });
  return 0;
}
