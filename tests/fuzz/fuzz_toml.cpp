// A recipe, and its first line as an override.
#include <cstdint>
#include <string>

#include "braid/io/toml.h"
#include "check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace braid;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto line = text.find('\n');
  toml::table table;
  fuzz::accept_errors(
      [&] { table = io::parse_toml(line == text.npos ? text : text.substr(line + 1), "input"); });
  fuzz::accept_errors([&] { io::apply_override(table, text.substr(0, line)); });
  const io::TomlFields fields(table, "input");
  for (const char* key : {"a", "a.b", "train.steps", "data"}) {
    fuzz::accept_errors([&] { fields.integer(key, 0, 1'000'000); });
    fuzz::accept_errors([&] { fields.number_or(key, 0.5); });
    fuzz::accept_errors([&] { fields.strings(key); });
    fuzz::accept_errors([&] { fields.tables(key); });
  }
  fuzz::accept_errors([&] { fields.table_or_empty("train").string_or("name", ""); });
  try {
    fields.finish();  // may name many keys, so its message has no bound
  } catch (const Error& error) {
    fuzz::check(std::strchr(error.what(), '\n') == nullptr, "errors are one line");
  }
  return 0;
}
