// Strict JSON and typed fields: whatever parses survives a round trip.
#include <cstdint>
#include <string>

#include "braid/io/json.h"
#include "check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace braid;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz::accept_errors([&] {
    const nlohmann::json json = io::parse_json(text, "input");
    const std::string dumped = json.dump();
    fuzz::check(io::parse_json(dumped, "dump").dump() == dumped, "parse and dump agree");
    const io::Fields fields(json, "input");
    for (const auto& item : json.items()) {
      const std::string& key = item.key();
      fuzz::accept_errors([&] { fields.integer(key, -5, 1'000'000); });
      fuzz::accept_errors([&] { fields.number_or(key, 0, -1, 1); });
      fuzz::accept_errors([&] { fields.integers(key); });
      fuzz::accept_errors([&] { fields.strings(key); });
      fuzz::accept_errors([&] { fields.object(key).allow_only({"layer_types", "hidden_size"}); });
    }
  });
  return 0;
}
