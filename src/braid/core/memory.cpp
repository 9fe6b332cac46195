#include "braid/core/memory.h"

#include <sys/mman.h>

#include <cstring>
#include <utility>

namespace braid {
namespace {

struct HostMemory final : Memory {
  Device device() const override { return Device::cpu; }
  // Anonymous mappings are zeroed, page-aligned and lazily backed; large pages keep the TLB out of the way.
  std::byte* allocate(std::size_t bytes) override {
    void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(p != MAP_FAILED, "out of memory: cannot allocate {} bytes", bytes);
    ::madvise(p, bytes, MADV_HUGEPAGE);
    return static_cast<std::byte*>(p);
  }
  void release(std::byte* data, std::size_t bytes) noexcept override { ::munmap(data, bytes); }
  void write(void* to, const void* host, std::size_t bytes) override {
    if (bytes != 0) std::memcpy(to, host, bytes);
  }
  void read(void* host, const void* from, std::size_t bytes) override {
    if (bytes != 0) std::memcpy(host, from, bytes);
  }
  void zero(void* data, std::size_t bytes) override {
    if (bytes != 0) std::memset(data, 0, bytes);
  }
};

}  // namespace

const std::shared_ptr<Memory>& host_memory() {
  static const std::shared_ptr<Memory> memory = std::make_shared<HostMemory>();
  return memory;
}

Buffer::Buffer(std::size_t bytes, std::shared_ptr<Memory> memory)
    : memory_(std::move(memory)), bytes_(bytes) {
  if (bytes != 0) data_ = memory_->allocate(bytes);
}

Buffer::~Buffer() {
  if (data_ != nullptr) memory_->release(data_, bytes_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : memory_(std::move(other.memory_)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace braid
