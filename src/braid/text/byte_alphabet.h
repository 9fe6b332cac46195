// The printable stand-ins for the 256 byte values in byte-level vocabularies (from GPT-2): printable Latin-1
// characters stand for themselves, the other bytes in order for U+0100 and up.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace braid::text {

std::string to_byte_alphabet(std::string_view bytes);
// Empty when a character is outside the alphabet.
std::optional<std::string> from_byte_alphabet(std::string_view text);

}  // namespace braid::text
