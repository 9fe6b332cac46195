#include "braid/text/utf8.h"

#include <algorithm>

namespace braid::text {
namespace {

constexpr std::uint8_t byte_at(std::string_view s, std::size_t i) { return static_cast<std::uint8_t>(s[i]); }

// Bytes that a character with this first byte has; 0 for bytes that start none.
constexpr std::size_t length_for(std::uint8_t first) {
  if (first < 0x80) return 1;
  if (first < 0xc2) return 0;
  if (first < 0xe0) return 2;
  if (first < 0xf0) return 3;
  return first < 0xf5 ? 4 : 0;
}

// Whether `second` may follow `first`: excludes overlong forms, surrogates and codes past U+10FFFF.
constexpr bool fits_second(std::uint8_t first, std::uint8_t second) {
  const std::uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const std::uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  return second >= low && second <= high;
}

// Whether the first n bytes are the start of a character that begins with text[0].
bool continues(std::string_view text, std::size_t n) {
  if (n > 1 && !fits_second(byte_at(text, 0), byte_at(text, 1))) return false;
  for (std::size_t i = 2; i < n; ++i) {
    if ((byte_at(text, i) & 0xc0) != 0x80) return false;
  }
  return true;
}

}  // namespace

Character first_character(std::string_view text) {
  if (text.empty()) return {};
  const std::uint8_t first = byte_at(text, 0);
  const std::size_t length = length_for(first);
  if (length == 1) return {first, 1};
  if (length == 0 || length > text.size() || !continues(text, length)) return {};
  char32_t code = first & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) code = (code << 6) | (byte_at(text, i) & 0x3fu);
  return {code, length};
}

Character last_character(std::string_view text) {
  for (std::size_t n = 1; n <= std::min<std::size_t>(4, text.size()); ++n) {
    const Character c = first_character(text.substr(text.size() - n));
    if (c.length == n) return c;
  }
  return {};
}

std::size_t valid_prefix(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    if (byte_at(text, at) < 0x80) {
      ++at;
      continue;
    }
    const std::size_t length = first_character(text.substr(at, 4)).length;
    if (length == 0) break;
    at += length;
  }
  return at;
}

bool is_character_start(std::string_view bytes) {
  return !bytes.empty() && bytes.size() < length_for(byte_at(bytes, 0)) && continues(bytes, bytes.size());
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

}  // namespace braid::text
