// Non-owning views of memory: where it is, what it holds, how it is shaped.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "braid/core/dtype.h"

namespace braid {

enum class Device : std::uint8_t { cpu, cuda, dry };

struct Shape {
  static constexpr int kMaxRank = 5;
  std::array<std::int64_t, kMaxRank> dims{};
  int rank = 0;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> d) {
    require(d.size() <= kMaxRank, "a tensor has at most {} dimensions, got {}", kMaxRank, d.size());
    for (const auto v : d) dims[static_cast<std::size_t>(rank++)] = v;
  }
  // Negative i counts from the back.
  std::int64_t operator[](int i) const { return dims[static_cast<std::size_t>(i < 0 ? i + rank : i)]; }
  std::int64_t count() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[static_cast<std::size_t>(i)];
    return n;
  }
  bool operator==(const Shape&) const = default;
};

std::string to_string(const Shape& shape);  // "(2, 3)"

// Read-only view, contiguous, row-major. Inputs take this; outputs take Tensor, which converts to it.
struct ConstTensor {
  const void* data = nullptr;
  DType dtype = DType::f32;
  Device device = Device::cpu;
  Shape shape;

  template <class T>
  const T* as() const {
    require(dtype == dtype_of<T>, "tensor holds {}, not {}", name_of(dtype), name_of(dtype_of<T>));
    return static_cast<const T*>(data);
  }
  std::int64_t count() const { return shape.count(); }
  std::size_t bytes() const { return static_cast<std::size_t>(shape.count()) * size_of(dtype); }
  // A tensor that was never made (rank 0) stands for "not given" where an op allows it.
  bool defined() const { return shape.rank != 0; }
};

struct Tensor : ConstTensor {
  template <class T>
  T* as() const {
    return const_cast<T*>(ConstTensor::as<T>());
  }
  void* mutable_data() const { return const_cast<void*>(data); }
};

// Rows [begin, begin + rows) of the first dimension.
ConstTensor rows_of(const ConstTensor& t, std::int64_t begin, std::int64_t rows);
Tensor rows_of(const Tensor& t, std::int64_t begin, std::int64_t rows);
// The same elements under another shape of equal count.
ConstTensor reshaped(const ConstTensor& t, const Shape& shape);
Tensor reshaped(const Tensor& t, const Shape& shape);
// "f32 (2, 3)"
std::string describe(const ConstTensor& t);

}  // namespace braid
