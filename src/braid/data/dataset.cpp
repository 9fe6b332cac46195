#include "braid/data/dataset.h"

#include <algorithm>
#include <utility>

namespace braid::data {

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

void FixedLengthDataset::read(std::int64_t index, Instance& out) const {
  require(index >= 0 && index < size(), "instance {} is outside the dataset of {}", index, size());
  const auto at = static_cast<std::size_t>(std::ranges::upper_bound(ends_, index) - ends_.begin());
  const TokenFile& file = files_[at];
  const std::int64_t first = (index - (at == 0 ? 0 : ends_[at - 1])) * sequence_length_;
  const auto length = static_cast<std::size_t>(sequence_length_);
  out.documents.clear();
  out.padding = 0;
  out.ids.resize(length);
  file.read(first, out.ids);
  out.labels.resize(file.label_mask() ? length : 0);
  if (file.label_mask()) file.label_mask()->read(first, out.labels);
}

}  // namespace braid::data
