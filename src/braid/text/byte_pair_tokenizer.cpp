#include <algorithm>
#include <unordered_map>

#include "braid/core/error.h"
#include "braid/text/tokenizer.h"
#include "braid/text/tokenizer_file.h"
#include "braid/text/utf8.h"

namespace braid::text {
namespace {

// Added tokens that close a document, in order of preference: tokenizer.json does not say which one does.
constexpr std::string_view kEndOfText[] = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"};

std::vector<AddedToken> round_of(const TokenizerFile& file, bool normalized) {
  std::vector<AddedToken> tokens = file.added_tokens;
  std::erase_if(tokens, [&](const AddedToken& t) { return t.normalized != normalized; });
  return tokens;
}

class BytePairTokenizer : public Tokenizer {
 public:
  BytePairTokenizer(TokenizerFile file, std::string json);
  BytePairTokenizer(const BytePairTokenizer&) = delete;  // whole_ points into tokens_
  BytePairTokenizer& operator=(const BytePairTokenizer&) = delete;

  std::vector<TokenId> encode(std::string_view text) const override;
  std::string decode(std::span<const TokenId> ids) const override;
  std::int64_t vocabulary_size() const override { return static_cast<std::int64_t>(tokens_.size()); }
  std::optional<TokenId> end_of_text() const override { return end_of_text_; }
  std::string_view file_name() const override { return "tokenizer.json"; }
  std::string file_content() const override { return json_; }

 private:
  struct Scratch {
    PreTokenizer::Scratch pre;
    BytePairEncoder::Scratch pair;
  };
  void encode_text(std::string_view text, Scratch& scratch, std::vector<TokenId>& ids) const;
  void encode_piece(std::string_view piece, Scratch& scratch, std::vector<TokenId>& ids) const;

  std::string json_;
  std::vector<TokenizerFile::Token> tokens_;
  AddedTokenFinder added_, added_normalized_;
  PreTokenizer pre_tokenizer_;
  BytePairEncoder encoder_;
  std::unordered_map<std::string_view, TokenId> whole_;  // pieces known to become one token; views of tokens_
  std::optional<TokenId> end_of_text_;
};

BytePairTokenizer::BytePairTokenizer(TokenizerFile file, std::string json)
    : json_(std::move(json)),
      tokens_(std::move(file.tokens)),
      added_(round_of(file, false)),
      added_normalized_(round_of(file, true)),
      pre_tokenizer_(std::move(file.pre_tokenizer)),
      encoder_(file.byte_ids, file.merges) {
  // Most words are one token. Merging finds out which tokens merging arrives at, so that encode() can skip
  // it.
  BytePairEncoder::Scratch scratch;
  std::vector<TokenId> ids;
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    const TokenizerFile::Token& token = tokens_[id];
    if (!token.mergeable || token.bytes.empty()) continue;
    ids.clear();
    if (!file.ignore_merges) encoder_.encode(token.bytes, scratch, ids);
    const bool whole = file.ignore_merges || (ids.size() == 1 && ids[0] == static_cast<TokenId>(id));
    if (whole) whole_.emplace(token.bytes, static_cast<TokenId>(id));
  }
  for (const std::string_view content : kEndOfText) {
    const auto it = std::find_if(file.added_tokens.begin(), file.added_tokens.end(),
                                 [&](const AddedToken& t) { return t.content == content; });
    if (it == file.added_tokens.end()) continue;
    end_of_text_ = it->id;
    break;
  }
}

std::vector<TokenId> BytePairTokenizer::encode(std::string_view text) const {
  Scratch scratch;
  std::vector<TokenId> ids;
  std::vector<Segment> segments, inner;
  added_.split(text, scratch.pre.regex, segments);
  for (const Segment& segment : segments) {
    if (segment.id >= 0) {
      ids.push_back(segment.id);
      continue;
    }
    inner.clear();
    added_normalized_.split(segment.text, scratch.pre.regex, inner);
    for (const Segment& part : inner) {
      if (part.id >= 0) {
        ids.push_back(part.id);
      } else {
        encode_text(part.text, scratch, ids);
      }
    }
  }
  return ids;
}

// The format defines pieces for Unicode text only. Bytes that are not well-formed UTF-8 are pieces of their
// own (each longest run one), and the text between them is cut as if it stood alone.
void BytePairTokenizer::encode_text(std::string_view text, Scratch& scratch,
                                    std::vector<TokenId>& ids) const {
  while (!text.empty()) {
    const std::size_t valid = valid_prefix(text);
    pre_tokenizer_.split(text.substr(0, valid), scratch.pre);
    for (const std::string_view piece : scratch.pre.pieces) encode_piece(piece, scratch, ids);
    text.remove_prefix(valid);
    std::size_t invalid = 0;
    while (invalid < text.size() && first_character(text.substr(invalid)).length == 0) ++invalid;
    if (invalid > 0) encode_piece(text.substr(0, invalid), scratch, ids);
    text.remove_prefix(invalid);
  }
}

void BytePairTokenizer::encode_piece(std::string_view piece, Scratch& scratch,
                                     std::vector<TokenId>& ids) const {
  if (const auto it = whole_.find(piece); it != whole_.end()) {
    ids.push_back(it->second);
  } else {
    encoder_.encode(piece, scratch.pair, ids);
  }
}

std::string BytePairTokenizer::decode(std::span<const TokenId> ids) const {
  std::string text;
  for (const TokenId id : ids) {
    const bool known = id >= 0 && static_cast<std::size_t>(id) < tokens_.size() &&
                       tokens_[static_cast<std::size_t>(id)].exists;
    require(known, "cannot decode id {}: the vocabulary has {} ids and no token of this id", id,
            tokens_.size());
    text += tokens_[static_cast<std::size_t>(id)].bytes;
  }
  return text;
}

}  // namespace

std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view json, const std::string& source) {
  return std::make_unique<BytePairTokenizer>(parse_tokenizer_file(json, source), std::string(json));
}

}  // namespace braid::text
