// Copies to the device: the host's memory may be used again at once, however many are on their way.
#include <cstring>

#include "tests/support/trial.h"

namespace braid::test {
namespace {

TEST(GpuMemory, WritesKeepWhatTheHostHadThen) {
  Memory& memory = *cuda_context().backend().memory;
  constexpr std::size_t kLargest = std::size_t{9} << 20;  // more than goes through page-locked memory
  constexpr std::size_t kSizes[] = {1, 100, 65'536, 65'537, 1'000'000, kLargest};
  constexpr int kRounds = 12;
  std::vector<Buffer> buffers;
  std::vector<std::byte> host(kLargest), back(kLargest);
  const auto value = [](std::size_t size, int round) {
    return static_cast<int>((size * 7 + static_cast<std::size_t>(round) * 31) % 251);
  };
  for (const auto size : kSizes) {
    for (int round = 0; round < kRounds; ++round) {
      buffers.emplace_back(size, cuda_context().backend().memory);
      std::memset(host.data(), value(size, round), size);
      memory.write(buffers.back().data(), host.data(), size);
    }
  }
  std::memset(host.data(), 255, host.size());
  auto buffer = buffers.begin();
  for (const auto size : kSizes) {
    for (int round = 0; round < kRounds; ++round, ++buffer) {
      memory.read(back.data(), buffer->data(), size);
      std::memset(host.data(), value(size, round), size);
      EXPECT_EQ(std::memcmp(back.data(), host.data(), size), 0) << size << " bytes, round " << round;
    }
  }
}

}  // namespace
}  // namespace braid::test
