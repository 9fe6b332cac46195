// A 64-bit hash that tells contents apart: changed files, splits by document. Not a defence against forgery.
#pragma once
#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace braid::data {

// Finaliser of splitmix64 (Steele et al., OOPSLA'14): every input bit reaches every output bit.
constexpr std::uint64_t mix_bits(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// FNV-1a over the bytes, then mix_bits. Values are part of the file formats: they must never change.
class Hash64 {
 public:
  explicit Hash64(std::uint64_t seed = 0) : state_(0xCBF29CE484222325u ^ mix_bits(seed)) {}

  Hash64& update(std::span<const std::byte> bytes) {
    for (const std::byte b : bytes) state_ = (state_ ^ static_cast<std::uint64_t>(b)) * 0x100000001B3u;
    return *this;
  }
  Hash64& update(std::string_view text) { return update(std::as_bytes(std::span(text))); }
  Hash64& update(std::uint64_t number) {
    for (int i = 0; i < 8; ++i) state_ = (state_ ^ ((number >> (8 * i)) & 0xFF)) * 0x100000001B3u;
    return *this;
  }

  std::uint64_t value() const { return mix_bits(state_); }
  std::string hex() const { return fmt::format("{:016x}", value()); }

 private:
  std::uint64_t state_;
};

}  // namespace braid::data
