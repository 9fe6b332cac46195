// Owned memory (Buffer) and bump allocation inside it (Arena).
#pragma once
#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "braid/core/tensor.h"

namespace braid {

inline constexpr std::size_t kAlignment = 256;
constexpr std::size_t align_up(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// A kind of memory: where buffers come from, and how the host's bytes get in and out. read, write and zero
// happen after the work that was given to the device before them, and before what follows.
class Memory {
 public:
  virtual ~Memory() = default;
  virtual Device device() const = 0;
  // Bytes that can still be allocated; the host's are not counted.
  virtual std::size_t available() const { return SIZE_MAX; }
  // Zeroed, aligned to kAlignment; throws when there is not enough.
  virtual std::byte* allocate(std::size_t bytes) = 0;
  virtual void release(std::byte* data, std::size_t bytes) noexcept = 0;
  // Host bytes may be reused on return.
  virtual void write(void* to, const void* host, std::size_t bytes) = 0;
  virtual void read(void* host, const void* from, std::size_t bytes) = 0;
  virtual void zero(void* data, std::size_t bytes) = 0;
};
const std::shared_ptr<Memory>& host_memory();

// The elements of a tensor that lies in `memory`.
template <class T>
std::vector<T> to_host(Memory& memory, const ConstTensor& t) {
  std::vector<T> values(static_cast<std::size_t>(t.count()));
  memory.read(values.data(), t.as<T>(), t.bytes());
  return values;
}

// One allocation of zeroed memory, aligned to kAlignment. Move-only; keeps its kind of memory alive.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t bytes, std::shared_ptr<Memory> memory = host_memory());
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return memory_ != nullptr ? memory_->device() : Device::cpu; }
  const std::shared_ptr<Memory>& memory() const { return memory_ != nullptr ? memory_ : host_memory(); }

 private:
  std::shared_ptr<Memory> memory_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// Hands out tensors from one block, last in first out. A null base only measures: tensors then have null
// data.
class Arena {
 public:
  Arena(std::byte* base, std::size_t capacity, Device device)
      : base_(base), capacity_(capacity), device_(device) {}
  explicit Arena(const Buffer& buffer) : Arena(buffer.data(), buffer.bytes(), buffer.device()) {}
  // Measures without memory.
  static Arena measuring() { return Arena(nullptr, SIZE_MAX / 2, Device::dry); }

  Tensor make(DType dtype, const Shape& shape) {
    Tensor t;
    t.dtype = dtype;
    t.device = device_;
    t.shape = shape;
    const std::size_t bytes = align_up(t.bytes());
    require(bytes <= capacity_ - top_, "arena exhausted: {} needs {} bytes, {} of {} are free", describe(t),
            bytes, capacity_ - top_, capacity_);
    t.data = base_ != nullptr ? base_ + top_ : nullptr;
    top_ += bytes;
    peak_ = std::max(peak_, top_);
    return t;
  }
  std::size_t used() const { return top_; }
  std::size_t peak() const { return peak_; }
  std::size_t capacity() const { return capacity_; }
  Device device() const { return device_; }

  // Frees, on scope exit, everything made since construction.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), mark_(arena.top_) {}
    ~Scope() { arena_.top_ = mark_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    std::size_t mark_;
  };

 private:
  std::byte* base_;
  std::size_t capacity_;
  Device device_;
  std::size_t top_ = 0, peak_ = 0;
};

}  // namespace braid
