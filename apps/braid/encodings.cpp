#include "encodings.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

#include "braid/core/error.h"
#include "braid/io/quote.h"
#include "braid/text/utf8.h"

namespace braid::app {

std::string valid_utf8(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const auto valid = text::valid_prefix(bytes);
    out += bytes.substr(0, valid);
    bytes.remove_prefix(valid);
    if (bytes.empty()) break;
    std::size_t part = 1;
    for (std::size_t n = 2; n <= std::min<std::size_t>(3, bytes.size()); ++n) {
      if (text::is_character_start(bytes.substr(0, n))) part = n;
    }
    out += "\xEF\xBF\xBD";
    bytes.remove_prefix(part);
  }
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const auto count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      group = group << 8 | (j < count ? static_cast<std::uint8_t>(bytes[i + j]) : 0u);
    }
    for (std::size_t j = 0; j < 4; ++j) {
      out += j <= count ? alphabet[group >> (18 - 6 * j) & 63] : '=';
    }
  }
  return out;
}

std::size_t parse_size(std::string_view text, std::string_view option) {
  struct Unit {
    std::string_view name;
    std::size_t bytes;
  };
  constexpr std::array units = {Unit{"", 1},
                                Unit{"B", 1},
                                Unit{"KB", 1'000},
                                Unit{"MB", 1'000'000},
                                Unit{"GB", 1'000'000'000},
                                Unit{"KiB", std::size_t{1} << 10},
                                Unit{"MiB", std::size_t{1} << 20},
                                Unit{"GiB", std::size_t{1} << 30}};
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view rest(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const auto unit = std::ranges::find(units, rest, &Unit::name);
  require(error == std::errc() && unit != units.end(),
          "{} {} is no size: expected a number with B, KB, MB, GB, "
          "KiB, MiB or GiB, as in 5GB",
          option, io::in_quotes(text));
  return number * unit->bytes;
}

}  // namespace braid::app
