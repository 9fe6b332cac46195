// The order in which a run sees its instances.
#pragma once
#include <cstdint>

namespace braid::data {

// Position p = step · batch + i of a run is a pure function of (seed, p): epoch p / instances visits every
// instance once, in a permutation of its own. Nothing is stored, so resuming, other batch sizes and any split
// among ranks see the same sequence.
class Order {
 public:
  Order(std::uint64_t seed, std::int64_t instances);
  std::int64_t instances() const { return instances_; }
  std::int64_t at(std::int64_t position) const;  // the instance, in [0, instances)

 private:
  std::uint64_t seed_;
  std::int64_t instances_;
  int half_bits_;
};

}  // namespace braid::data
