#include <algorithm>
#include <bit>
#include <cstring>

#include "braid/io/quote.h"
#include "braid/io/safetensors.h"
#include "braid/io/safetensors_header.h"

namespace braid::io {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");
constexpr std::uint64_t kLengthBytes = 8, kMaxHeaderBytes = 100'000'000;

// Bytes of the tensor. Multiplies in the order of Shape::count(), which is then safe to call.
std::uint64_t checked_bytes(const HeaderEntry& e, const std::string& source) {
  std::int64_t count = 1, bytes = 0;
  bool overflow = false;
  for (int i = 0; i < e.shape->rank; ++i) overflow |= __builtin_mul_overflow(count, (*e.shape)[i], &count);
  overflow |= __builtin_mul_overflow(count, static_cast<std::int64_t>(size_of(*e.dtype)), &bytes);
  require(!overflow, "{}: tensor {}: shape {} overflows", source, in_quotes(e.name), to_string(*e.shape));
  return static_cast<std::uint64_t>(bytes);
}

// The entry must start where the one before it ended: `at`.
void check_extent(const HeaderEntry& e, std::uint64_t at, std::uint64_t data_bytes,
                  const std::string& source) {
  const auto [begin, end] = *e.data_offsets;
  const auto name = [&] { return in_quotes(e.name); };
  require(begin <= end, "{}: tensor {}: data_offsets [{}, {}] run backwards", source, name(), begin, end);
  require(end <= data_bytes, "{}: tensor {}: data_offsets [{}, {}] exceed the {} bytes of data", source,
          name(), begin, end, data_bytes);
  const std::uint64_t bytes = checked_bytes(e, source);
  require(end - begin == bytes, "{}: tensor {}: data_offsets [{}, {}] hold {} bytes, but {} {} needs {}",
          source, name(), begin, end, end - begin, name_of(*e.dtype), to_string(*e.shape), bytes);
  require(begin >= at, "{}: tensor {}: data_offsets [{}, {}] overlap the tensor before it, which ends at {}",
          source, name(), begin, end, at);
  require(begin == at, "{}: tensor {}: data_offsets [{}, {}] leave a hole of {} bytes before it", source,
          name(), begin, end, begin - at);
}

}  // namespace

SafetensorsView parse_safetensors(std::span<const std::byte> image, const std::string& source) {
  require(image.size() >= kLengthBytes, "{}: {} bytes are too few for a safetensors file", source,
          image.size());
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, image.data(), kLengthBytes);
  require(header_bytes <= kMaxHeaderBytes, "{}: header length {} exceeds the limit of {}", source,
          header_bytes, kMaxHeaderBytes);
  require(header_bytes <= image.size() - kLengthBytes,
          "{}: header length {} exceeds the file, which has {} bytes", source, header_bytes, image.size());
  const std::string_view text(reinterpret_cast<const char*>(image.data()) + kLengthBytes, header_bytes);
  SafetensorsHeader header = parse_safetensors_header(text, source);
  const std::span<const std::byte> data = image.subspan(kLengthBytes + header_bytes);

  // Pairs compare begin first, so an empty tensor comes before the tensor that starts at the same byte.
  std::stable_sort(
      header.entries.begin(), header.entries.end(),
      [](const HeaderEntry& a, const HeaderEntry& b) { return *a.data_offsets < *b.data_offsets; });
  SafetensorsView view;
  view.metadata = std::move(header.metadata);
  std::uint64_t at = 0;
  for (HeaderEntry& e : header.entries) {
    check_extent(e, at, data.size(), source);
    const std::uint64_t position = kLengthBytes + header_bytes + at, end = (*e.data_offsets)[1];
    require(end == at || position % size_of(*e.dtype) == 0,
            "{}: tensor {}: data starts at byte {} of the file, which is not aligned for {}; save the file "
            "again with "
            "a padded header and larger element types first",
            source, in_quotes(e.name), position, name_of(*e.dtype));
    ConstTensor tensor;
    tensor.data = data.data() + at;
    tensor.dtype = *e.dtype;
    tensor.shape = *e.shape;
    view.tensors.push_back({std::move(e.name), tensor});
    at = end;
  }
  require(at == data.size(), "{}: {} bytes follow the last tensor", source, data.size() - at);
  return view;
}

}  // namespace braid::io
