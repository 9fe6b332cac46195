// The host's bytes on their way to the device, by way of page-locked memory.
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

}  // namespace braid::cuda
