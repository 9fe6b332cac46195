#include "tests/support/tensors.h"

#include <cstring>
#include <numeric>

#include "braid/core/random.h"
#include "tests/support/comparator.h"

namespace braid::test {
namespace {

// FNV-1a: the random stream of a name.
std::uint64_t stream_of(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

double rounded(double value, DType to) {
  switch (to) {
    case DType::bf16:
      return static_cast<double>(static_cast<float>(BFloat16(static_cast<float>(value))));
    case DType::f16:
      return static_cast<double>(static_cast<float>(Float16(static_cast<float>(value))));
    case DType::f32:
      return static_cast<double>(static_cast<float>(value));
    default:
      return value;
  }
}

}  // namespace

void set_element(const Tensor& t, std::int64_t i, double value) {
  switch (t.dtype) {
    case DType::f32:
      t.as<float>()[i] = static_cast<float>(value);
      break;
    case DType::f64:
      t.as<double>()[i] = value;
      break;
    case DType::bf16:
      t.as<BFloat16>()[i] = BFloat16(static_cast<float>(value));
      break;
    case DType::f16:
      t.as<Float16>()[i] = Float16(static_cast<float>(value));
      break;
    case DType::i32:
      t.as<std::int32_t>()[i] = static_cast<std::int32_t>(value);
      break;
    case DType::i64:
      t.as<std::int64_t>()[i] = static_cast<std::int64_t>(value);
      break;
    case DType::u8:
      t.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(value);
      break;
  }
}

std::int64_t sum_of(const std::vector<std::int64_t>& lengths) {
  return std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
}

Tensor TestTensors::host(DType dtype, const Shape& shape) {
  Tensor t;
  t.dtype = dtype;
  t.shape = shape;
  t.device = real() ? Device::cpu : Device::dry;
  if (!real()) return t;
  blocks_.emplace_back(static_cast<std::byte*>(::operator new (t.bytes(), std::align_val_t{kAlignment})));
  t.data = blocks_.back().get();
  return t;
}

Tensor TestTensors::placed(const Tensor& t) {
  if (!real() || memory_->device() == Device::cpu) return t;
  device_blocks_.emplace_back(std::max<std::size_t>(t.bytes(), 1), memory_);
  Tensor there = t;
  there.device = memory_->device();
  there.data = device_blocks_.back().data();
  memory_->write(there.mutable_data(), t.data, t.bytes());
  blocks_.pop_back();  // t is always the block made last
  return there;
}

Tensor TestTensors::make(DType dtype, const Shape& shape) {
  const Tensor t = host(dtype, shape);
  if (real()) std::memset(t.mutable_data(), 0xff, t.bytes());
  return placed(t);
}

Tensor TestTensors::zeros(DType dtype, const Shape& shape) {
  const Tensor t = host(dtype, shape);
  if (real()) std::memset(t.mutable_data(), 0, t.bytes());
  return placed(t);
}

Tensor TestTensors::normal(std::string_view name, DType dtype, const Shape& shape, Fill fill) {
  const Tensor t = host(dtype, shape);
  if (!real()) return t;
  Random random(seed_, stream_of(name));
  for (std::int64_t i = 0; i < t.count(); ++i) {
    const double value = fill.offset + fill.scale * random.normal();
    set_element(t, i, rounded(value, fill.rounded_to.value_or(rounding_)));
  }
  return placed(t);
}

Tensor TestTensors::uniform(std::string_view name, DType dtype, const Shape& shape, double low, double high) {
  const Tensor t = host(dtype, shape);
  if (!real()) return t;
  Random random(seed_, stream_of(name));
  for (std::int64_t i = 0; i < t.count(); ++i) {
    set_element(t, i, rounded(low + (high - low) * random.uniform(), rounding_));
  }
  return placed(t);
}

Tensor TestTensors::integers(std::string_view name, const Shape& shape, std::int64_t low, std::int64_t high) {
  const Tensor t = host(DType::i32, shape);
  if (!real()) return t;
  Random random(seed_, stream_of(name));
  for (std::int64_t i = 0; i < t.count(); ++i) {
    const auto offset = random.below(static_cast<std::uint64_t>(high - low));
    t.as<std::int32_t>()[i] = static_cast<std::int32_t>(low + static_cast<std::int64_t>(offset));
  }
  return placed(t);
}

Tensor TestTensors::of(DType dtype, const Shape& shape, const std::vector<double>& values) {
  require(shape.count() == static_cast<std::int64_t>(values.size()), "{} values for shape {}", values.size(),
          to_string(shape));
  const Tensor t = host(dtype, shape);
  if (!real()) return t;
  for (std::size_t i = 0; i < values.size(); ++i) set_element(t, static_cast<std::int64_t>(i), values[i]);
  return placed(t);
}

Tensor TestTensors::of(const std::vector<std::int32_t>& values) {
  return of(DType::i32, {static_cast<std::int64_t>(values.size())},
            std::vector<double>(values.begin(), values.end()));
}

Tensor TestTensors::copy_of(const ConstTensor& t, DType dtype) {
  const ConstTensor source = on_host(t);
  const Tensor copy = host(dtype, t.shape);
  if (!real()) return copy;
  for (std::int64_t i = 0; i < t.count(); ++i) set_element(copy, i, element(source, i));
  return placed(copy);
}

ops::Segments TestTensors::segments(const std::vector<std::int64_t>& lengths) {
  std::vector<std::int32_t> offsets{0};
  for (const auto length : lengths) offsets.push_back(offsets.back() + static_cast<std::int32_t>(length));
  return {of(offsets)};
}

void TestTensors::set(const Tensor& t, std::int64_t i, double value) {
  if (!real()) return;
  if (t.device == Device::cpu) return set_element(t, i, value);
  std::byte bytes[8];
  Tensor one = t;
  one.shape = {1};
  one.data = bytes;
  set_element(one, 0, value);
  const auto size = size_of(t.dtype);
  memory_->write(static_cast<std::byte*>(t.mutable_data()) + static_cast<std::size_t>(i) * size, bytes, size);
}

ConstTensor TestTensors::on_host(const ConstTensor& t) {
  if (t.device != Device::cuda) return t;
  const Tensor copy = host(t.dtype, t.shape);
  memory_->read(copy.mutable_data(), t.data, t.bytes());
  return copy;
}

}  // namespace braid::test
