// Byte-pair encoding of one piece of text (Sennrich et al. 2016, arXiv 1508.07909), on bytes.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "braid/text/tokenizer.h"

namespace braid::text {

// Tokens `left` and `right`, side by side, become `result`.
struct Merge {
  TokenId left, right, result;
};

class BytePairEncoder {
 public:
  // Working memory of encode(), kept by the caller between calls.
  class Scratch {
    friend class BytePairEncoder;
    struct Symbol {
      TokenId id;  // -1 once merged into the symbol before it
      std::uint32_t previous, next;
    };
    struct Candidate {
      std::uint32_t rank, position;
      TokenId left, right, result;
    };
    std::vector<Symbol> symbols_;
    std::vector<Candidate> heap_;
  };

  // byte_ids: the token of each single byte. merges: most urgent first, no pair twice.
  BytePairEncoder(const std::array<TokenId, 256>& byte_ids, const std::vector<Merge>& merges);
  // Appends the ids of `piece`: starting from bytes, the pair that comes first in the merges is merged,
  // leftmost first, until none is left. O(n log n).
  void encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& ids) const;

 private:
  struct Slot {
    std::uint64_t pair = kEmpty;
    std::uint32_t rank = 0;
    TokenId result = 0;
  };
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};

  const Slot* find(TokenId left, TokenId right) const;
  std::size_t slot_of(std::uint64_t pair) const;
  void propose(std::uint32_t position, Scratch& scratch) const;

  std::array<TokenId, 256> byte_ids_;
  std::vector<Slot> table_;  // open addressing, a power of two of slots, at most half full
};

}  // namespace braid::text
