// A small byte-level tokenizer.json to vary in tests.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "braid/text/byte_alphabet.h"

namespace braid::test {

// 256 bytes (id = byte value), then the results of the merges from 256 on; ByteLevel without further
// splitting.
inline nlohmann::json small_tokenizer(const std::vector<std::pair<std::string, std::string>>& merges = {}) {
  nlohmann::json vocab = nlohmann::json::object(), pairs = nlohmann::json::array();
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    vocab[text::to_byte_alphabet({&c, 1})] = byte;
  }
  for (const auto& [left, right] : merges) {
    vocab.emplace(left + right, vocab.size());
    pairs.push_back({left, right});
  }
  return {{"version", "1.0"},
          {"added_tokens", nlohmann::json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", pairs}}}};
}

}  // namespace braid::test
