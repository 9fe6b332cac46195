#include "braid/backends/cuda/pinned_copies.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "braid/backends/cuda/state.h"

namespace braid::cuda {
namespace {

constexpr std::size_t kLeast = std::size_t{1} << 16, kMost = std::size_t{1} << 23;  // bytes of a slot

}  // namespace

PinnedWrites::~PinnedWrites() {
  for (auto& slot : slots_) {
    if (slot.taken != nullptr) cudaEventSynchronize(slot.taken);
    if (slot.taken != nullptr) cudaEventDestroy(slot.taken);
    cudaFreeHost(slot.data);
  }
}

void PinnedWrites::write(cudaStream_t stream, void* to, const void* host, std::size_t bytes) {
  const void* from = host;
  Slot& slot = slots_[next_];
  if (bytes <= kMost) {  // the driver itself takes larger ones in pieces
    if (slot.taken == nullptr) {
      check_cuda(cudaEventCreateWithFlags(&slot.taken, cudaEventDisableTiming | cudaEventBlockingSync),
                 "event");
    }
    check_cuda(cudaEventSynchronize(slot.taken), "work on the device");
    if (slot.bytes < bytes) {
      cudaFreeHost(slot.data);
      slot.data = nullptr;
      slot.bytes = std::bit_ceil(std::max(bytes, kLeast));
      check_cuda(cudaMallocHost(&slot.data, slot.bytes), "page-locked memory");
    }
    std::memcpy(slot.data, host, bytes);
    from = slot.data;
    next_ = (next_ + 1) % kSlots;
  }
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream), "copy to the device");
  if (from == slot.data) check_cuda(cudaEventRecord(slot.taken, stream), "event");
}

PinnedRead::~PinnedRead() { cudaFreeHost(data_); }

void PinnedRead::read(cudaStream_t stream, void* host, const void* from, std::size_t bytes) {
  const bool few = bytes != 0 && bytes <= kFew;
  if (few && data_ == nullptr) check_cuda(cudaMallocHost(&data_, kFew), "page-locked memory");
  if (bytes != 0) {
    check_cuda(cudaMemcpyAsync(few ? data_ : host, from, bytes, cudaMemcpyDeviceToHost, stream),
               "copy to the host");
  }
  check_cuda(cudaStreamSynchronize(stream), "work on the device");
  if (few) std::memcpy(host, data_, bytes);
}

}  // namespace braid::cuda
