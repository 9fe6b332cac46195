// Tensors for tests: owned, reproducible from (seed, name), exact in the dtype under test.
#pragma once
#include <memory>
#include <new>
#include <optional>
#include <string_view>
#include <vector>

#include "braid/core/memory.h"
#include "braid/ops/segments.h"

namespace braid::test {

struct Fill {
  double scale = 1, offset = 0;
  std::optional<DType> rounded_to{};  // empty: the rounding of the TestTensors
};

enum class Contents : bool { real, null };  // null: shapes only, for dry runs

// Each tensor is its own block of exact size, so that sanitizers see what is read past its end. In device
// memory nothing here may be touched through the tensor itself: use set() and on_host().
class TestTensors {
 public:
  explicit TestTensors(std::uint64_t seed, DType rounding = DType::f32, Contents contents = Contents::real,
                       std::shared_ptr<Memory> memory = host_memory())
      : seed_(seed), rounding_(rounding), contents_(contents), memory_(std::move(memory)) {}

  std::uint64_t seed() const { return seed_; }

  // Every byte 0xff: NaN as a float, so that whatever an op fails to write shows.
  Tensor make(DType dtype, const Shape& shape);
  Tensor zeros(DType dtype, const Shape& shape);
  // offset + scale · standard normal, or uniform in [low, high), rounded to `rounding` before it is stored:
  // the same numbers in every dtype. Value i depends on seed, name and i alone.
  Tensor normal(std::string_view name, DType dtype, const Shape& shape, Fill fill = {});
  Tensor uniform(std::string_view name, DType dtype, const Shape& shape, double low, double high);
  // Uniform in [low, high).
  Tensor integers(std::string_view name, const Shape& shape, std::int64_t low, std::int64_t high);

  Tensor of(DType dtype, const Shape& shape, const std::vector<double>& values);
  Tensor of(const std::vector<std::int32_t>& values);
  Tensor copy_of(const ConstTensor& t, DType dtype);
  Tensor copy_of(const ConstTensor& t) { return copy_of(t, t.dtype); }
  ops::Segments segments(const std::vector<std::int64_t>& lengths);

  // Element i becomes `value`, rounded to the tensor's dtype; null tensors have none.
  void set(const Tensor& t, std::int64_t i, double value);
  // The tensor itself where the host can read it, else a copy.
  ConstTensor on_host(const ConstTensor& t);

 private:
  Tensor host(DType dtype, const Shape& shape);
  // A filled host tensor, moved to where this object's tensors live.
  Tensor placed(const Tensor& t);
  bool real() const { return contents_ == Contents::real; }

  struct Free {
    void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{kAlignment}); }
  };
  std::uint64_t seed_;
  DType rounding_;
  Contents contents_;
  std::shared_ptr<Memory> memory_;
  std::vector<std::unique_ptr<std::byte, Free>> blocks_;
  std::vector<Buffer> device_blocks_;
};

// Stores `value` as element i, rounded to the tensor's dtype.
void set_element(const Tensor& t, std::int64_t i, double value);

std::int64_t sum_of(const std::vector<std::int64_t>& lengths);

}  // namespace braid::test
