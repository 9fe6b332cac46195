// Label masks: the first byte is where reading begins, the second how many labels are read; also beyond the
// end.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "braid/data/label_mask.h"
#include "check.h"
#include "input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace braid::data;
  using braid::fuzz::check;
  if (size < 2) return 0;
  const std::span bytes(data + 2, size - 2);
  const braid::fuzz::InputFile file({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, ".mask");
  braid::fuzz::accept_errors([&] {
    const LabelMask mask(file.path(), static_cast<std::int64_t>(bytes.size()));
    std::vector<std::uint8_t> labels(data[1]);
    mask.read(data[0], labels);
    check(std::size_t{data[0]} + data[1] <= bytes.size(), "only labels inside are read");
    check(std::ranges::equal(labels, bytes.subspan(data[0], data[1])), "labels are the bytes");
    for (const std::uint8_t label : labels) check(label <= 1, "labels are 0 or 1");
  });
  return 0;
}
