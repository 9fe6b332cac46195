// OLMo-core's mix lists.
#include <cstdint>
#include <string>

#include "braid/data/mix_list.h"
#include "check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace braid::data;
  using braid::fuzz::check;
  const std::string_view content(reinterpret_cast<const char*>(data), size);
  braid::fuzz::accept_errors([&] {
    const auto entries = parse_mix_list(content, "fuzz.txt", {.base = "base", .tokenizer = "name"});
    check(!entries.empty(), "a mix has entries");
    for (const MixEntry& entry : entries) {
      check(entry.path.string().starts_with("base/"), "paths begin with the base");
      check(entry.path.string().find('\0') == std::string::npos, "paths are whole");
    }
  });
  return 0;
}
