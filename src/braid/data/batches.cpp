#include "braid/data/batches.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace braid::data {
namespace {

// Appends the segments and positions of the instance that begins at `begin`.
void add_segments(Batch& batch, std::int64_t begin, BatchOptions options) {
  std::int32_t position = 0;
  for (std::int64_t i = begin; i < begin + batch.sequence_length; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const bool after_end = i > begin && batch.ids[at - 1] == options.end_of_text;
    if (options.document_masking == DocumentMasking::yes && after_end) {
      batch.segment_offsets.push_back(static_cast<std::int32_t>(i));
      position = 0;
    }
    batch.positions[at] = position++;
  }
  batch.segment_offsets.push_back(static_cast<std::int32_t>(begin + batch.sequence_length));
}

}  // namespace

Batch assemble(const Dataset& dataset, std::span<const std::int64_t> instances, BatchOptions options) {
  const std::int64_t length = dataset.sequence_length(), count = static_cast<std::int64_t>(instances.size());
  require(count > 0, "a batch needs at least one instance");
  require(count <= std::numeric_limits<std::int32_t>::max() / length,
          "a batch of {} instances of {} tokens is too large for 32-bit offsets", count, length);
  require(options.document_masking == DocumentMasking::no || options.end_of_text >= 0,
          "document masking needs the end-of-text id");
  const auto total = static_cast<std::size_t>(count * length), row = static_cast<std::size_t>(length);
  Batch batch;
  batch.instances = count;
  batch.sequence_length = length;
  batch.predicted = count * (length - 1);
  batch.ids.resize(total), batch.targets.resize(total), batch.positions.resize(total);
  batch.segment_offsets.push_back(0);
  for (std::size_t begin = 0; begin < total; begin += row) {
    const std::span<std::int32_t> ids = std::span(batch.ids).subspan(begin, row);
    dataset.read(instances[begin / row], ids);
    const auto targets = batch.targets.begin() + static_cast<std::ptrdiff_t>(begin);
    *std::copy(ids.begin() + 1, ids.end(), targets) = -1;
    add_segments(batch, static_cast<std::int64_t>(begin), options);
  }
  return batch;
}

Batch assemble(const Dataset& dataset, const Order& order, std::int64_t first_position, std::int64_t count,
               BatchOptions options) {
  require(order.instances() == dataset.size(), "the order is over {} instances, but the dataset has {}",
          order.instances(), dataset.size());
  std::vector<std::int64_t> instances;
  for (std::int64_t i = 0; i < count; ++i) instances.push_back(order.at(first_position + i));
  return assemble(dataset, instances, options);
}

Batch assemble_sequential(const Dataset& dataset, std::int64_t first, std::int64_t count,
                          BatchOptions options) {
  require(first >= 0 && first < dataset.size(), "instance {} is outside the dataset of {}", first,
          dataset.size());
  std::vector<std::int64_t> instances(
      static_cast<std::size_t>(std::clamp<std::int64_t>(count, 0, dataset.size() - first)));
  std::iota(instances.begin(), instances.end(), first);
  return assemble(dataset, instances, options);
}

}  // namespace braid::data
