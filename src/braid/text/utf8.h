// Well-formed UTF-8 (Unicode table 3-7: no surrogates, no overlong forms, nothing past U+10FFFF).
#pragma once
#include <cstdint>
#include <string_view>

namespace braid::text {

struct Character {
  char32_t code = 0;
  std::size_t length = 0;  // in bytes; 0 when the bytes are not well-formed
};
Character first_character(std::string_view text);
Character last_character(std::string_view text);

// Length of the longest well-formed prefix.
std::size_t valid_prefix(std::string_view text);
// Whether more bytes could turn the whole of `bytes` into one well-formed character.
bool is_character_start(std::string_view bytes);
// Unicode White_Space.
bool is_white_space(char32_t code);

}  // namespace braid::text
