// Counter-based random numbers: value i of stream (seed, stream) is a pure function, so any part of any run
// can be replayed from its seed alone. Philox 4x32-10 (Salmon et al., SC'11).
#pragma once
#include <array>
#include <cstdint>

namespace braid {

class Random {
 public:
  explicit Random(std::uint64_t seed, std::uint64_t stream = 0, std::uint64_t counter = 0)
      : seed_(seed), stream_(stream), counter_(counter) {}

  std::uint32_t next_u32();
  std::uint64_t next_u64() { return (std::uint64_t{next_u32()} << 32) | next_u32(); }
  double uniform();                          // [0, 1), 53 bits
  double normal();                           // mean 0, standard deviation 1 (Box-Muller)
  double truncated_normal(double cut);       // normal, redrawn until |x| <= cut
  std::uint64_t below(std::uint64_t bound);  // [0, bound) without bias; bound > 0

 private:
  std::uint64_t seed_, stream_, counter_;
  std::array<std::uint32_t, 4> block_{};
  int used_ = 4;
};

}  // namespace braid
