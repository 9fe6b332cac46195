#include "braid/data/packing.h"

#include <algorithm>
#include <numeric>

#include "braid/core/random.h"
#include "tests/data/fixture.h"

namespace braid::data {
namespace {

using Numbers = std::vector<std::int64_t>;

TEST(Packing, HandComputed) {
  // 6 opens bin 0 (room 4), 5 bin 1 (5), 4 fills bin 0, the first 3 goes to bin 1 (2), the second opens
  // bin 2 (7), 2 fills bin 1, 1 goes to bin 2.
  const Packing packing = pack_best_fit(Numbers{3, 1, 6, 4, 5, 3, 2}, 10);
  EXPECT_EQ(packing.items, (Numbers{2, 3, 4, 0, 6, 5, 1}));
  EXPECT_EQ(packing.ends, (Numbers{2, 5, 7}));
}

TEST(Packing, TheFullestThatHoldsIt) {
  // 7 and 6 leave 3 and 4: the 3 goes where it fits exactly, the 2 beside the 6.
  const Packing packing = pack_best_fit(Numbers{6, 7, 2, 3}, 10);
  EXPECT_EQ(packing.items, (Numbers{1, 3, 0, 2}));
  EXPECT_EQ(packing.ends, (Numbers{2, 4}));
}

TEST(Packing, EdgesAndErrors) {
  EXPECT_EQ(pack_best_fit({}, 4).ends, Numbers{});
  EXPECT_EQ(pack_best_fit(Numbers{4, 4}, 4).ends, (Numbers{1, 2}));
  EXPECT_EQ(pack_best_fit(Numbers{1, 1, 1}, 1).ends, (Numbers{1, 2, 3}));
  expect_error([] { pack_best_fit(Numbers{1, 5}, 4); }, {"item 1", "length 5", "1 to 4"});
  expect_error([] { pack_best_fit(Numbers{0}, 4); }, {"item 0", "length 0"});
}

// Against the same rule with every bin looked at.
TEST(Packing, AgreesWithThePlainRule) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Random random(seed, 1);
    const auto capacity = static_cast<std::int64_t>(1 + random.next_u64() % 40);
    Numbers lengths(random.next_u64() % 200);
    for (auto& length : lengths)
      length = 1 + static_cast<std::int64_t>(random.next_u64() % static_cast<std::uint64_t>(capacity));
    Numbers order(lengths.size());
    std::iota(order.begin(), order.end(), 0);
    const auto length_of = [&](std::int64_t i) { return lengths[static_cast<std::size_t>(i)]; };
    std::ranges::stable_sort(order, std::ranges::greater{}, length_of);
    struct Bin {
      std::int64_t room, touched;
      Numbers items;
    };
    std::vector<Bin> bins;
    for (std::int64_t time = 0; const std::int64_t item : order) {
      Bin* best = nullptr;
      for (Bin& bin : bins) {
        if (bin.room < length_of(item)) continue;
        if (best == nullptr || bin.room < best->room ||
            (bin.room == best->room && bin.touched > best->touched))
          best = &bin;
      }
      if (best == nullptr) best = &bins.emplace_back(Bin{capacity, 0, {}});
      best->room -= length_of(item);
      best->touched = ++time;
      best->items.push_back(item);
    }
    Numbers items, ends;
    for (const Bin& bin : bins) {
      items.insert(items.end(), bin.items.begin(), bin.items.end());
      ends.push_back(static_cast<std::int64_t>(items.size()));
    }
    const Packing packing = pack_best_fit(lengths, capacity);
    EXPECT_EQ(packing.items, items) << "seed " << seed;
    EXPECT_EQ(packing.ends, ends) << "seed " << seed;
  }
}

}  // namespace
}  // namespace braid::data
