// Bytes between host and device, by way of page-locked memory.
#pragma once
#include <cuda_runtime.h>

#include <array>
#include <cstddef>

namespace braid::cuda {

// The device takes the bytes when it gets there: the host waits only where it is kSlots writes ahead.
class PinnedWrites {
 public:
  PinnedWrites() = default;
  ~PinnedWrites();
  PinnedWrites(const PinnedWrites&) = delete;
  PinnedWrites& operator=(const PinnedWrites&) = delete;

  void write(cudaStream_t stream, void* to, const void* host, std::size_t bytes);

 private:
  static constexpr std::size_t kSlots = 4;
  struct Slot {
    void* data = nullptr;
    std::size_t bytes = 0;
    cudaEvent_t taken = nullptr;  // by the device
  };
  std::array<Slot, kSlots> slots_;
  std::size_t next_ = 0;
};

// Reads what all work given to the stream before leaves, and waits for it; a few bytes, as of drawn tokens,
// without what the driver does to copy into other memory.
class PinnedRead {
 public:
  PinnedRead() = default;
  ~PinnedRead();
  PinnedRead(const PinnedRead&) = delete;
  PinnedRead& operator=(const PinnedRead&) = delete;

  void read(cudaStream_t stream, void* host, const void* from, std::size_t bytes);

 private:
  static constexpr std::size_t kFew = 4096;  // bytes; beyond, the host's second copy costs as much
  void* data_ = nullptr;
};

}  // namespace braid::cuda
