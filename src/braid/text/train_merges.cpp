#include <algorithm>
#include <queue>
#include <unordered_map>

#include "braid/text/train_tokenizer.h"

namespace braid::text {
namespace {

using Pair = std::uint64_t;

Pair pair_of(TokenId left, TokenId right) {
  return (Pair{static_cast<std::uint32_t>(left)} << 32) | static_cast<std::uint32_t>(right);
}
TokenId left_of(Pair pair) { return static_cast<TokenId>(pair >> 32); }
TokenId right_of(Pair pair) { return static_cast<TokenId>(pair & 0xFFFFFFFFu); }

struct MixPair {
  std::size_t operator()(Pair pair) const { return (pair ^ (pair >> 29)) * 0x9e3779b97f4a7c15u >> 7; }
};

struct PairState {
  std::int64_t count = 0;
  std::vector<std::uint32_t> words;  // that held the pair at some time; may repeat
};

// A heap entry is out of date when the pair's count has changed since: a new one is pushed when it is met.
struct Candidate {
  std::int64_t count;
  Pair pair;
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Merger {
 public:
  Merger(const std::vector<CountedPiece>& pieces, const std::array<TokenId, 256>& byte_ids) {
    for (const CountedPiece& piece : pieces) {
      std::vector<TokenId> ids;
      for (const char byte : piece.bytes) ids.push_back(byte_ids[static_cast<std::uint8_t>(byte)]);
      words_.push_back(std::move(ids));
      counts_.push_back(piece.count);
    }
    for (std::uint32_t w = 0; w < words_.size(); ++w) count_pairs(w);
    for (const auto& [pair, state] : pairs_) heap_.push({state.count, pair});
  }

  // The most frequent pair, or false when none comes `min_count` times.
  bool best(std::int64_t min_count, Pair& pair) {
    while (!heap_.empty()) {
      const Candidate top = heap_.top();
      heap_.pop();
      const std::int64_t count = pairs_.at(top.pair).count;
      if (count != top.count) {
        if (count > 0 && count < top.count) heap_.push({count, top.pair});
        continue;
      }
      if (count < min_count) return false;
      pair = top.pair;
      return true;
    }
    return false;
  }

  void merge(Pair pair, TokenId result) {
    std::vector<std::uint32_t> words = std::move(pairs_.at(pair).words);
    std::ranges::sort(words);
    words.erase(std::unique(words.begin(), words.end()), words.end());
    changed_.clear();
    for (const std::uint32_t w : words) merge_in(w, pair, result);
    pairs_.at(pair) = {};
    for (const Pair p : changed_) {
      if (const std::int64_t count = pairs_.at(p).count; count > 0) heap_.push({count, p});
    }
  }

 private:
  void count_pairs(std::uint32_t w) {
    const auto& word = words_[w];
    for (std::size_t i = 0; i + 1 < word.size(); ++i) add(word[i], word[i + 1], w, counts_[w]);
  }
  void add(TokenId left, TokenId right, std::uint32_t w, std::int64_t count) {
    PairState& state = pairs_[pair_of(left, right)];
    state.count += count;
    if (count > 0 && (state.words.empty() || state.words.back() != w)) state.words.push_back(w);
  }

  // Leftmost first; only counts beside a merged place change.
  void merge_in(std::uint32_t w, Pair pair, TokenId result) {
    auto& word = words_[w];
    const std::int64_t count = counts_[w];
    std::size_t out = 0;
    for (std::size_t i = 0; i < word.size();) {
      const bool here = i + 1 < word.size() && word[i] == left_of(pair) && word[i + 1] == right_of(pair);
      if (!here) {
        word[out++] = word[i++];
        continue;
      }
      if (out > 0) {
        add(word[out - 1], word[i], w, -count);
        add(word[out - 1], result, w, count);
        changed_.push_back(pair_of(word[out - 1], result));
      }
      if (i + 2 < word.size()) {
        add(word[i + 1], word[i + 2], w, -count);
        add(result, word[i + 2], w, count);
        changed_.push_back(pair_of(result, word[i + 2]));
      }
      word[out++] = result;
      i += 2;
    }
    word.resize(out);
  }

  std::vector<std::vector<TokenId>> words_;
  std::vector<std::int64_t> counts_;
  std::unordered_map<Pair, PairState, MixPair> pairs_;
  std::priority_queue<Candidate> heap_;
  std::vector<Pair> changed_;
};

}  // namespace

std::vector<Merge> train_merges(const std::vector<CountedPiece>& pieces,
                                const std::array<TokenId, 256>& byte_ids, std::int64_t vocabulary,
                                std::int64_t min_count) {
  Merger merger(pieces, byte_ids);
  std::vector<std::string> texts(256);  // by id
  std::unordered_map<std::string, TokenId> ids;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    auto& text = texts[static_cast<std::size_t>(byte_ids[byte])];
    text = std::string(1, static_cast<char>(byte));
    ids.emplace(text, byte_ids[byte]);
  }
  std::vector<Merge> merges;
  for (Pair pair = 0; static_cast<std::int64_t>(texts.size()) < vocabulary && merger.best(min_count, pair);) {
    std::string text = texts[static_cast<std::size_t>(left_of(pair))];
    text += texts[static_cast<std::size_t>(right_of(pair))];
    const auto [known, fresh] = ids.emplace(text, static_cast<TokenId>(texts.size()));
    if (fresh) texts.push_back(std::move(text));
    merger.merge(pair, known->second);
    merges.push_back({left_of(pair), right_of(pair), known->second});
  }
  return merges;
}

}  // namespace braid::text
