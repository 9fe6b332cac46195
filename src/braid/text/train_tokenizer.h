// Training a byte-level BPE tokenizer (Sennrich et al. 2016, arXiv 1508.07909) from text.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "braid/text/byte_pair.h"

namespace braid::text {

// How text is cut into pieces, across which nothing is merged.
enum class SplitPattern : std::uint8_t {
  cl100k,  // words with the sign or space before them, numbers of up to 3 digits, signs, line ends
  gpt2,
};

struct TrainTokenizerOptions {
  std::int64_t vocabulary =
      32768;                   // ids in all: 256 bytes, merges, special tokens; fewer if the text has no more
  std::int64_t min_count = 2;  // pairs that come less often are not merged
  SplitPattern pattern = SplitPattern::cl100k;
  std::vector<std::string> special_tokens = {
      "<|endoftext|>"};  // take the last ids; the first closes documents
};

// Counts the pieces of texts, then merges: always the pair that comes most often, of several the one with the
// smallest ids (left, then right). What comes out depends on the texts alone, not on their order.
class TokenizerTrainer {
 public:
  explicit TokenizerTrainer(const TrainTokenizerOptions& options);
  ~TokenizerTrainer();
  TokenizerTrainer(const TokenizerTrainer&) = delete;
  TokenizerTrainer& operator=(const TokenizerTrainer&) = delete;

  // Any bytes; those that are not UTF-8 are pieces of their own. Special tokens in the text are left out.
  void add(std::string_view text);
  std::int64_t pieces() const;  // different ones so far
  // The tokenizer.json. Pair counts are kept up to date merge by merge: O(text · log) in all.
  std::string finish() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct CountedPiece {
  std::string bytes;
  std::int64_t count = 0;
};
// Merges until there are `vocabulary` ids. The bytes have the ids 0 to 255 that `byte_ids` gives them; a
// merge makes the next id, or, where an earlier one has arrived at the same bytes, that one's.
std::vector<Merge> train_merges(const std::vector<CountedPiece>& pieces,
                                const std::array<TokenId, 256>& byte_ids, std::int64_t vocabulary,
                                std::int64_t min_count);

}  // namespace braid::text
