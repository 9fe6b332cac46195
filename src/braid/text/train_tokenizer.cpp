#include "braid/text/train_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "braid/core/error.h"
#include "braid/text/added_tokens.h"
#include "braid/text/byte_alphabet.h"
#include "braid/text/pre_tokenizer_file.h"
#include "braid/text/utf8.h"

namespace braid::text {
namespace {

// The split of cl100k_base, as published in tokenizer.json files of OLMo 2 and later.
constexpr std::string_view kCl100k =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

nlohmann::ordered_json pre_tokenizer_json(SplitPattern pattern) {
  const bool own = pattern == SplitPattern::gpt2;  // ByteLevel brings GPT-2's along
  const nlohmann::ordered_json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", own}};
  if (own) return byte_level;
  const nlohmann::ordered_json split = {
      {"type", "Split"}, {"pattern", {{"Regex", kCl100k}}}, {"behavior", "Isolated"}, {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", {split, byte_level}}};
}

// Ids of the bytes in the order of their characters in the byte alphabet, as other trainers number them.
struct ByteOrder {
  std::array<TokenId, 256> ids{};
  std::vector<std::string> tokens;  // by id, in the byte alphabet
  ByteOrder() {
    for (int byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      tokens.push_back(to_byte_alphabet({&c, 1}));
    }
    auto by_id = tokens;
    std::ranges::sort(by_id);  // UTF-8 sorts as its code points do
    for (std::size_t byte = 0; byte < 256; ++byte) {
      ids[byte] = static_cast<TokenId>(std::ranges::lower_bound(by_id, tokens[byte]) - by_id.begin());
    }
    tokens = std::move(by_id);
  }
};

std::vector<AddedToken> special_tokens(const TrainTokenizerOptions& options) {
  std::vector<AddedToken> tokens;
  std::unordered_set<std::string_view> seen;
  for (const std::string& content : options.special_tokens) {
    require(!content.empty(), "a special token is empty");
    require(valid_prefix(content) == content.size(), "special token {}: not UTF-8", tokens.size() + 1);
    require(seen.insert(content).second, "the special token '{}' is given twice", content);
    tokens.push_back({.content = content, .special = true});
  }
  return tokens;
}

}  // namespace

struct TokenizerTrainer::State {
  explicit State(const TrainTokenizerOptions& o) : options(o), specials(special_tokens(o)), finder(specials) {
    const nlohmann::json root = {{"pre_tokenizer", pre_tokenizer_json(o.pattern)}};
    pre_tokenizer = PreTokenizer(read_pre_tokenizer(io::Fields(root, "split pattern")));
    const auto fewest = static_cast<std::int64_t>(256 + specials.size());
    require(o.vocabulary >= fewest,
            "a vocabulary of {} is too small: 256 bytes and {} special tokens need {}", o.vocabulary,
            specials.size(), fewest);
    constexpr std::int64_t kMost = std::int64_t{1} << 22;  // what tokenizer.json files may hold here
    require(o.vocabulary <= kMost, "a vocabulary of {} is too large, the limit is {}", o.vocabulary, kMost);
    require(o.min_count >= 1, "the smallest count of a merged pair is {}, expected at least 1", o.min_count);
  }
  void count(std::string_view piece) { ++counts[std::string(piece)]; }
  void add_text(std::string_view text) {
    while (!text.empty()) {
      const std::size_t valid = valid_prefix(text);
      pre_tokenizer.split(text.substr(0, valid), scratch);
      for (const std::string_view piece : scratch.pieces) count(piece);
      text.remove_prefix(valid);
      std::size_t invalid = 0;
      while (invalid < text.size() && first_character(text.substr(invalid)).length == 0) ++invalid;
      if (invalid > 0) count(text.substr(0, invalid));
      text.remove_prefix(invalid);
    }
  }

  TrainTokenizerOptions options;
  std::vector<AddedToken> specials;
  AddedTokenFinder finder;
  PreTokenizer pre_tokenizer;
  PreTokenizer::Scratch scratch;
  std::unordered_map<std::string, std::int64_t> counts;
};

TokenizerTrainer::TokenizerTrainer(const TrainTokenizerOptions& options) : state_(new State(options)) {}
TokenizerTrainer::~TokenizerTrainer() = default;

void TokenizerTrainer::add(std::string_view text) {
  std::vector<Segment> segments;
  state_->finder.split(text, state_->scratch.regex, segments);
  for (const Segment& segment : segments) {
    if (segment.id < 0) state_->add_text(segment.text);
  }
}

std::int64_t TokenizerTrainer::pieces() const { return static_cast<std::int64_t>(state_->counts.size()); }

std::string TokenizerTrainer::finish() const {
  const State& s = *state_;
  require(!s.counts.empty(), "no text to train a tokenizer on");
  std::vector<CountedPiece> pieces;
  for (const auto& [bytes, count] : s.counts) pieces.push_back({bytes, count});
  std::ranges::sort(pieces, {}, &CountedPiece::bytes);
  const ByteOrder bytes;
  const auto specials = static_cast<std::int64_t>(s.specials.size());
  const auto merges = train_merges(pieces, bytes.ids, s.options.vocabulary - specials, s.options.min_count);

  auto tokens = bytes.tokens;
  nlohmann::ordered_json merge_list = nlohmann::ordered_json::array();
  for (const Merge& merge : merges) {
    const std::string left = tokens[static_cast<std::size_t>(merge.left)];
    const std::string right = tokens[static_cast<std::size_t>(merge.right)];
    merge_list.push_back({left, right});
    if (merge.result == static_cast<TokenId>(tokens.size())) tokens.push_back(left + right);
  }
  nlohmann::ordered_json vocabulary = nlohmann::ordered_json::object();
  for (std::size_t id = 0; id < tokens.size(); ++id) vocabulary.emplace(tokens[id], id);
  nlohmann::ordered_json added = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < s.specials.size(); ++i) {
    added.push_back({{"id", tokens.size() + i},
                     {"content", s.specials[i].content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const nlohmann::ordered_json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const nlohmann::ordered_json root = {{"version", "1.0"},
                                       {"truncation", nullptr},
                                       {"padding", nullptr},
                                       {"added_tokens", std::move(added)},
                                       {"normalizer", nullptr},
                                       {"pre_tokenizer", pre_tokenizer_json(s.options.pattern)},
                                       {"post_processor", nullptr},
                                       {"decoder", byte_level},
                                       {"model",
                                        {{"type", "BPE"},
                                         {"dropout", nullptr},
                                         {"unk_token", nullptr},
                                         {"continuing_subword_prefix", nullptr},
                                         {"end_of_word_suffix", nullptr},
                                         {"fuse_unk", false},
                                         {"byte_fallback", false},
                                         {"ignore_merges", false},
                                         {"vocab", std::move(vocabulary)},
                                         {"merges", std::move(merge_list)}}}};
  return root.dump(1) + "\n";
}

}  // namespace braid::text
