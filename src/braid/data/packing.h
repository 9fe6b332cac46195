// Best-fit-decreasing bin packing.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace braid::data {

// Items by bin: bin b holds items[ends[b - 1]] … items[ends[b] - 1] in the order in which they were put
// there.
struct Packing {
  std::vector<std::int64_t> items;  // indices into the lengths
  std::vector<std::int64_t> ends;   // one past each bin's last item
};

// Items longest first (equal ones in their order), each into the bin with the least room that still holds it
// (of several with the same room the last that came to it), else into a new bin; bins in the order in which
// they were opened. Lengths from 1 to capacity. O(n log capacity), by a segment tree over the room that bins
// have left. A pure function of its arguments.
Packing pack_best_fit(std::span<const std::int64_t> lengths, std::int64_t capacity);

}  // namespace braid::data
