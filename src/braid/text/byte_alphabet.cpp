#include "braid/text/byte_alphabet.h"

#include <array>

#include "braid/text/utf8.h"

namespace braid::text {
namespace {

constexpr bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

constexpr std::array<std::uint16_t, 256> kCharacterOf = [] {
  std::array<std::uint16_t, 256> table{};
  std::uint16_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    table[static_cast<std::size_t>(byte)] =
        stands_for_itself(byte) ? static_cast<std::uint16_t>(byte) : next++;
  }
  return table;
}();

constexpr std::size_t kCodes = 0x100 + 68;  // 68 bytes do not stand for themselves

// -1: not in the alphabet.
constexpr std::array<std::int16_t, kCodes> kByteOf = [] {
  std::array<std::int16_t, kCodes> table{};
  for (auto& byte : table) byte = -1;
  for (std::size_t byte = 0; byte < 256; ++byte) table[kCharacterOf[byte]] = static_cast<std::int16_t>(byte);
  return table;
}();

}  // namespace

std::string to_byte_alphabet(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    const unsigned code = kCharacterOf[static_cast<std::uint8_t>(c)];
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else {
      text += static_cast<char>(0xc0 | (code >> 6));
      text += static_cast<char>(0x80 | (code & 0x3f));
    }
  }
  return text;
}

std::optional<std::string> from_byte_alphabet(std::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const Character c = first_character(text);
    if (c.length == 0 || c.code >= kCodes || kByteOf[c.code] < 0) return std::nullopt;
    bytes += static_cast<char>(kByteOf[c.code]);
    text.remove_prefix(c.length);
  }
  return bytes;
}

}  // namespace braid::text
