#include "braid/text/byte_pair.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "braid/core/error.h"

namespace braid::text {
namespace {

constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

std::uint64_t pair_key(TokenId left, TokenId right) {
  return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32) | static_cast<std::uint32_t>(right);
}

}  // namespace

BytePairEncoder::BytePairEncoder(const std::array<TokenId, 256>& byte_ids, const std::vector<Merge>& merges)
    : byte_ids_(byte_ids), table_(std::bit_ceil(2 * merges.size() + 2)) {
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::uint64_t pair = pair_key(merges[rank].left, merges[rank].right);
    Slot& slot = table_[slot_of(pair)];
    if (slot.pair == kEmpty) slot = {pair, static_cast<std::uint32_t>(rank), merges[rank].result};
  }
}

// The slot that holds `pair`, or the empty one where it would go.
std::size_t BytePairEncoder::slot_of(std::uint64_t pair) const {
  const std::size_t mask = table_.size() - 1;
  std::size_t slot = (pair * 0x9e3779b97f4a7c15u) >> 32 & mask;  // Fibonacci hashing: the high bits are mixed
  while (table_[slot].pair != kEmpty && table_[slot].pair != pair) slot = (slot + 1) & mask;
  return slot;
}

const BytePairEncoder::Slot* BytePairEncoder::find(TokenId left, TokenId right) const {
  const Slot& slot = table_[slot_of(pair_key(left, right))];
  return slot.pair == kEmpty ? nullptr : &slot;
}

// Puts the merge of the symbol at `position` with the next one, if there is one, on the heap.
void BytePairEncoder::propose(std::uint32_t position, Scratch& scratch) const {
  if (position == kNone || scratch.symbols_[position].next == kNone) return;
  const TokenId left = scratch.symbols_[position].id;
  const TokenId right = scratch.symbols_[scratch.symbols_[position].next].id;
  const Slot* slot = find(left, right);
  if (slot != nullptr) scratch.heap_.push_back({slot->rank, position, left, right, slot->result});
}

void BytePairEncoder::encode(std::string_view piece, Scratch& scratch, std::vector<TokenId>& ids) const {
  require(piece.size() < kNone, "cannot encode a piece of {} bytes: the limit is 4 GiB", piece.size());
  auto& symbols = scratch.symbols_;
  auto& heap = scratch.heap_;
  symbols.clear();
  heap.clear();
  const auto later = [](const Scratch::Candidate& a, const Scratch::Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  };
  const auto size = static_cast<std::uint32_t>(piece.size());
  for (std::uint32_t i = 0; i < size; ++i) {
    symbols.push_back({byte_ids_[static_cast<std::uint8_t>(piece[i])], i - 1, i + 1 < size ? i + 1 : kNone});
  }
  for (std::uint32_t i = 0; i < size; ++i) propose(i, scratch);
  std::make_heap(heap.begin(), heap.end(), later);

  const auto propose_and_sift = [&](std::uint32_t position) {
    const std::size_t before = heap.size();
    propose(position, scratch);
    if (heap.size() != before) std::push_heap(heap.begin(), heap.end(), later);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbols[top.position];
    // An earlier merge may have taken either symbol.
    if (left.id != top.left || left.next == kNone || symbols[left.next].id != top.right) continue;
    Scratch::Symbol& right = symbols[left.next];
    left.id = top.result;
    left.next = right.next;
    right.id = -1;
    if (left.next != kNone) symbols[left.next].previous = top.position;
    propose_and_sift(left.previous);
    propose_and_sift(top.position);
  }
  for (const Scratch::Symbol& s : symbols) {
    if (s.id >= 0) ids.push_back(s.id);
  }
}

}  // namespace braid::text
