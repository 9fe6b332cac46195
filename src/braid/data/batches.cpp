#include "braid/data/batches.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace braid::data {
namespace {

constexpr std::int32_t kNoTarget = -1;

// The instance's row of the batch, which begins at `begin`.
void add_targets(Batch& batch, const Instance& instance, std::size_t begin, const BatchOptions& options) {
  const std::size_t used = instance.ids.size() - static_cast<std::size_t>(instance.padding);
  const auto ids = std::span(instance.ids).first(used);
  const bool masked = options.instance_filter && is_repetitive(ids, *options.instance_filter);
  batch.filtered += masked;
  std::fill_n(batch.targets.begin() + static_cast<std::ptrdiff_t>(begin), instance.ids.size(), kNoTarget);
  for (std::size_t next = 1; next < used; ++next) {
    if (!instance.labels.empty() && instance.labels[next] == 0) continue;
    ++batch.predicted;
    if (!masked) batch.targets[begin + next - 1] = ids[next];
  }
}

// Calls fn with the place of every token of the instance, after the first, that begins a segment.
template <class Fn>
void for_each_start(const Instance& instance, const BatchOptions& options, const Fn& fn) {
  const std::size_t length = instance.ids.size(), used = length - static_cast<std::size_t>(instance.padding);
  if (options.document_masking == DocumentMasking::yes) {
    for (const std::int64_t start : instance.documents) {
      if (start > 0) fn(static_cast<std::size_t>(start));
    }
    for (std::size_t i = 1; i < used && instance.documents.empty(); ++i) {
      if (instance.ids[i - 1] == options.end_of_text) fn(i);
    }
  }
  if (used > 0 && used < length) fn(used);
}

void add_segments(Batch& batch, const Instance& instance, std::size_t begin, const BatchOptions& options) {
  std::size_t from = begin;
  const auto end_at = [&](std::size_t end) {
    for (std::size_t i = from; i < end; ++i) batch.positions[i] = static_cast<std::int32_t>(i - from);
    batch.segment_offsets.push_back(static_cast<std::int32_t>(end));
    from = end;
  };
  for_each_start(instance, options, [&](std::size_t start) { end_at(begin + start); });
  end_at(begin + instance.ids.size());
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
  batch.ids.resize(total), batch.targets.resize(total), batch.positions.resize(total);
  batch.segment_offsets.push_back(0);
  Instance instance;
  for (std::size_t begin = 0; begin < total; begin += row) {
    dataset.read(instances[begin / row], instance);
    std::ranges::copy(instance.ids, batch.ids.begin() + static_cast<std::ptrdiff_t>(begin));
    add_targets(batch, instance, begin, options);
    add_segments(batch, instance, begin, options);
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
