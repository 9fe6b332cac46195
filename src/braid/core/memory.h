// Owned memory (Buffer) and bump allocation inside it (Arena).
#pragma once
#include <algorithm>
#include <cstddef>

#include "braid/core/tensor.h"

namespace braid {

inline constexpr std::size_t kAlignment = 256;
constexpr std::size_t align_up(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// One allocation of zeroed host memory, aligned to kAlignment. Move-only.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// Hands out tensors from one block, last in first out. A null base only measures: tensors then have null
// data.
class Arena {
 public:
  Arena(std::byte* base, std::size_t capacity, Device device)
      : base_(base), capacity_(capacity), device_(device) {}
  explicit Arena(const Buffer& buffer) : Arena(buffer.data(), buffer.bytes(), Device::cpu) {}
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
