// Tokens that are found in the text as they are, before anything else is done with it.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "braid/text/regex.h"
#include "braid/text/tokenizer.h"

namespace braid::text {

struct AddedToken {
  TokenId id = 0;
  std::string content;       // not empty
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool normalized = false;   // searched in a second round, in what the first left
  bool special = false;
};

// A stretch of text, or, when id >= 0, one added token.
struct Segment {
  std::string_view text;
  TokenId id = -1;
};

// One round of the search: leftmost match first, of several there the longest.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);
  // Appends the segments of `text` in order.
  void split(std::string_view text, Regex::Scratch& scratch, std::vector<Segment>& segments) const;

 private:
  const AddedToken* longest_at(std::string_view text) const;
  bool touches_word(std::string_view before, std::string_view after, Regex::Scratch& scratch) const;

  std::vector<AddedToken> tokens_;
  std::array<bool, 256> starts_{};                         // bytes that start some token
  std::unordered_map<std::uint64_t, std::uint32_t> trie_;  // (node << 8 | byte) -> node; node 0 is the root
  std::vector<std::int32_t> token_at_;                     // by node: index into tokens_, or -1
  std::optional<Regex> word_;  // one word character; made only when a token needs it
};

}  // namespace braid::text
