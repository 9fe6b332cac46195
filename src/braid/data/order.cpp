#include "braid/data/order.h"

#include <array>
#include <bit>

#include "braid/core/error.h"
#include "braid/core/random.h"
#include "braid/data/hash.h"

namespace braid::data {
namespace {

constexpr int kRounds = 8;
constexpr std::uint64_t kStream =
    0x4F72646572u;  // keeps the round keys apart from other uses of the run's seed

using RoundKeys = std::array<std::uint64_t, kRounds>;

RoundKeys round_keys(std::uint64_t seed, std::uint64_t epoch) {
  Random random(seed, mix_bits(kStream) ^ epoch);
  RoundKeys keys;
  for (std::uint64_t& key : keys) key = random.next_u64();
  return keys;
}

// A balanced Feistel network: a bijection of 2 · half_bits bits whatever the round function is.
std::uint64_t feistel(std::uint64_t x, int half_bits, const RoundKeys& keys) {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits) - 1;
  std::uint64_t left = x >> half_bits, right = x & mask;
  for (const std::uint64_t key : keys) {
    const std::uint64_t next = left ^ (mix_bits(right + key) & mask);
    left = right;
    right = next;
  }
  return (left << half_bits) | right;
}

}  // namespace

Order::Order(std::uint64_t seed, std::int64_t instances) : seed_(seed), instances_(instances) {
  require(instances > 0, "an order needs at least one instance, got {}", instances);
  const int bits = std::bit_width(static_cast<std::uint64_t>(instances - 1));
  half_bits_ = bits / 2 + bits % 2;
}

std::int64_t Order::at(std::int64_t position) const {
  require(position >= 0, "position {} is before the start of the run", position);
  if (instances_ == 1) return 0;
  const RoundKeys keys = round_keys(seed_, static_cast<std::uint64_t>(position / instances_));
  auto x = static_cast<std::uint64_t>(position % instances_);
  // Cycle walking (Black and Rogaway, 2002): the domain is under 4 times as large, so few steps leave it.
  do x = feistel(x, half_bits_, keys);
  while (x >= static_cast<std::uint64_t>(instances_));
  return static_cast<std::int64_t>(x);
}

}  // namespace braid::data
