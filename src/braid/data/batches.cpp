#include "braid/data/batches.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

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

FixedLengthDataset::FixedLengthDataset(std::vector<TokenFile> files, std::int64_t sequence_length)
    : files_(std::move(files)), sequence_length_(sequence_length) {
  require(sequence_length >= 2, "sequence length {} leaves nothing to predict; it must be at least 2",
          sequence_length);
  require(!files_.empty(), "a dataset needs at least one token file");
  std::int64_t instances = 0, longest = 0;
  for (const TokenFile& file : files_) {
    instances += file.size() / sequence_length;
    dropped_tokens_ += file.size() % sequence_length;
    longest = std::max(longest, file.size());
    ends_.push_back(instances);
  }
  require(instances > 0, "{}: {} tokens are fewer than the sequence length {}; shorten it or add data",
          files_.front().path().string(), longest, sequence_length);
}

void FixedLengthDataset::read(std::int64_t index, std::span<TokenId> ids) const {
  require(index >= 0 && index < size(), "instance {} is outside the dataset of {}", index, size());
  require(static_cast<std::int64_t>(ids.size()) == sequence_length_,
          "an instance has {} tokens, but there is room for {}", sequence_length_, ids.size());
  const auto file = static_cast<std::size_t>(std::ranges::upper_bound(ends_, index) - ends_.begin());
  const std::int64_t before = file == 0 ? 0 : ends_[file - 1];
  files_[file].read((index - before) * sequence_length_, ids);
}

Batch assemble(const FixedLengthDataset& dataset, std::span<const std::int64_t> instances,
               BatchOptions options) {
  const std::int64_t length = dataset.sequence_length(), count = static_cast<std::int64_t>(instances.size());
  require(count > 0, "a batch needs at least one instance");
  require(count <= std::numeric_limits<std::int32_t>::max() / length,
          "a batch of {} instances of {} tokens is too large for 32-bit offsets", count, length);
  require(options.document_masking == DocumentMasking::no || options.end_of_text >= 0,
          "document masking needs the end-of-text id");
  const auto total = static_cast<std::size_t>(count * length), row = static_cast<std::size_t>(length);
  Batch batch{count, length, {}, {}, {}, {}};
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

Batch assemble(const FixedLengthDataset& dataset, const Order& order, std::int64_t first_position,
               std::int64_t count, BatchOptions options) {
  require(order.instances() == dataset.size(), "the order is over {} instances, but the dataset has {}",
          order.instances(), dataset.size());
  std::vector<std::int64_t> instances;
  for (std::int64_t i = 0; i < count; ++i) instances.push_back(order.at(first_position + i));
  return assemble(dataset, instances, options);
}

Batch assemble_sequential(const FixedLengthDataset& dataset, std::int64_t first, std::int64_t count,
                          BatchOptions options) {
  require(first >= 0 && first < dataset.size(), "instance {} is outside the dataset of {}", first,
          dataset.size());
  std::vector<std::int64_t> instances(
      static_cast<std::size_t>(std::clamp<std::int64_t>(count, 0, dataset.size() - first)));
  std::iota(instances.begin(), instances.end(), first);
  return assemble(dataset, instances, options);
}

}  // namespace braid::data
