// Bytes in formats that cannot hold them as they are, and sizes as people write them.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace braid::app {

// UTF-8 with U+FFFD for each maximal ill-formed part, as tokenizers and transformers decode (Unicode 3.9,
// U+FFFD substitution of maximal subparts).
std::string valid_utf8(std::string_view bytes);
std::string base64(std::string_view bytes);
// "5GB", "500MB", "2GiB", "1000": decimal units as transformers' max_shard_size, and binary ones. `option`
// names it in errors.
std::size_t parse_size(std::string_view text, std::string_view option);

}  // namespace braid::app
