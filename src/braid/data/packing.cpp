#include "braid/data/packing.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "braid/core/error.h"

namespace braid::data {
namespace {

constexpr std::int64_t kNone = -1;

// Bins by the room they have left. A binary tree over 0 … largest says below each node whether there is any.
class Rooms {
 public:
  explicit Rooms(std::int64_t largest)
      : leaves_(std::bit_ceil(static_cast<std::size_t>(largest) + 1)),
        any_(2 * leaves_),
        newest_(leaves_, kNone) {}

  void add(std::int64_t bin, std::int64_t room) {
    const auto at = static_cast<std::size_t>(room), b = static_cast<std::size_t>(bin);
    if (older_.size() <= b) older_.resize(b + 1, kNone);
    older_[b] = newest_[at];
    newest_[at] = bin;
    for (std::size_t node = leaves_ + at; node > 0 && !any_[node]; node /= 2) any_[node] = true;
  }
  // Removes and returns a bin with the least room of at least `length`, and that room; or kNone.
  std::pair<std::int64_t, std::int64_t> take(std::int64_t length) {
    std::size_t node = leaves_ + static_cast<std::size_t>(length);
    if (!any_[node]) {  // up to a right sibling that has one, then down its left edge
      while (node != 1 && (node % 2 == 1 || !any_[node + 1])) node /= 2;
      if (node == 1) return {kNone, 0};
      ++node;
      while (node < leaves_) node = 2 * node + (any_[2 * node] ? 0 : 1);
    }
    const std::size_t at = node - leaves_;
    const std::int64_t bin = newest_[at];
    newest_[at] = older_[static_cast<std::size_t>(bin)];
    if (newest_[at] == kNone) {
      any_[node] = false;
      for (node /= 2; node > 0; node /= 2) any_[node] = any_[2 * node] || any_[2 * node + 1];
    }
    return {bin, static_cast<std::int64_t>(at)};
  }

 private:
  std::size_t leaves_;
  std::vector<bool> any_;
  std::vector<std::int64_t> newest_, older_;  // by room; by bin: chains of bins of equal room
};

}  // namespace

Packing pack_best_fit(std::span<const std::int64_t> lengths, std::int64_t capacity) {
  std::vector<std::int64_t> order(lengths.size()), bin_of(lengths.size());
  const auto length_of = [&](std::int64_t item) { return lengths[static_cast<std::size_t>(item)]; };
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::ranges::greater{}, length_of);
  Rooms rooms(capacity);
  std::vector<std::int64_t> counts;  // items by bin
  for (const std::int64_t item : order) {
    const std::int64_t length = length_of(item);
    require(length >= 1 && length <= capacity, "item {} has length {}, expected 1 to {}", item, length,
            capacity);
    auto [bin, room] = rooms.take(length);
    if (bin == kNone) {
      bin = static_cast<std::int64_t>(counts.size()), room = capacity;
      counts.push_back(0);
    }
    rooms.add(bin, room - length);
    bin_of[static_cast<std::size_t>(item)] = bin;
    ++counts[static_cast<std::size_t>(bin)];
  }
  Packing packing;
  packing.items.resize(lengths.size());
  packing.ends.resize(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), packing.ends.begin(), std::int64_t{0});
  for (const std::int64_t item : order) {
    auto& end = packing.ends[static_cast<std::size_t>(bin_of[static_cast<std::size_t>(item)])];
    packing.items[static_cast<std::size_t>(end++)] = item;
  }
  return packing;
}

}  // namespace braid::data
