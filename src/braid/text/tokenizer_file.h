// What a tokenizer.json of a byte-level BPE tokenizer says. Fields that would change ids and that braid does
// not implement are errors that name them.
#pragma once
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "braid/text/added_tokens.h"
#include "braid/text/byte_pair.h"
#include "braid/text/pre_tokenizer.h"

namespace braid::text {

struct TokenizerFile {
  struct Token {
    std::string bytes;
    bool exists = false;     // ids may have gaps
    bool mergeable = false;  // in the byte alphabet, so that text can become this token
  };
  std::vector<Token> tokens;  // by id, added tokens included
  std::vector<AddedToken> added_tokens;
  std::array<TokenId, 256> byte_ids{};
  std::vector<Merge> merges;
  bool ignore_merges = false;  // a piece that is a token becomes it without merging
  std::vector<SplitStep> pre_tokenizer;
};

TokenizerFile parse_tokenizer_file(std::string_view json, const std::string& source);

}  // namespace braid::text
