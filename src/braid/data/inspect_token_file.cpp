#include "braid/data/inspect_token_file.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "braid/data/document_bounds.h"
#include "braid/data/text_bytes.h"

namespace braid::data {
namespace {

constexpr std::int64_t kChunk = std::int64_t{1} << 16;

// Whether each id has a meaning.
class KnownIds {
 public:
  KnownIds(const TokenFile& file, const text::Tokenizer* tokenizer) {
    if (tokenizer != nullptr) {
      for (const std::int32_t bytes : token_bytes(*tokenizer)) known_.push_back(bytes >= 0);
    } else {
      limit_ = file.info() ? file.info()->vocabulary.size : std::numeric_limits<std::int64_t>::max();
    }
  }
  bool operator()(std::uint32_t id) const {
    return known_.empty() ? id < limit_ : id < known_.size() && known_[id];
  }

 private:
  std::vector<bool> known_;
  std::int64_t limit_ = 0;
};

// A list of bounds if there is one, else the ends of text; read as stored, so that unknown ids do no harm.
std::vector<DocumentBounds> find_documents(const TokenFile& file, std::int64_t end_of_text) {
  std::error_code ignored;
  if (fs::exists(bounds_path(file.path()), ignored)) return document_bounds(file, -1);
  require(end_of_text >= 0, "{}: its documents cannot be told apart without a tokenizer or a sidecar",
          file.path().string());
  std::vector<DocumentBounds> documents;
  std::vector<std::uint32_t> numbers(static_cast<std::size_t>(std::min(kChunk, file.size())));
  std::int64_t begin = 0;
  for (std::int64_t first = 0; first < file.size(); first += kChunk) {
    const auto part =
        std::span(numbers).first(static_cast<std::size_t>(std::min(kChunk, file.size() - first)));
    file.read_stored(first, part);
    for (std::size_t i = 0; i < part.size(); ++i) {
      if (part[i] != static_cast<std::uint32_t>(end_of_text)) continue;
      const std::int64_t end = first + static_cast<std::int64_t>(i) + 1;
      documents.push_back({begin, end});
      begin = end;
    }
  }
  if (begin < file.size()) documents.push_back({begin, file.size()});
  return documents;
}

void add_ids(const TokenFile& file, const KnownIds& known, std::int64_t end_of_text,
             TokenFileReport& report) {
  std::vector<std::uint32_t> numbers(static_cast<std::size_t>(std::min(kChunk, file.size())));
  std::int64_t closed = 0;
  for (std::int64_t first = 0; first < file.size(); first += kChunk) {
    const auto part =
        std::span(numbers).first(static_cast<std::size_t>(std::min(kChunk, file.size() - first)));
    file.read_stored(first, part);
    for (std::size_t i = 0; i < part.size(); ++i) {
      const std::int64_t at = first + static_cast<std::int64_t>(i);
      report.largest = std::max<std::int64_t>(report.largest, part[i]);
      if (part[i] == end_of_text) closed = at + 1;
      if (known(part[i])) continue;
      if (report.unknown++ == 0) report.first_unknown = at;
    }
  }
  report.open_tokens = file.size() - closed;
}

void add_lengths(const std::vector<DocumentBounds>& documents, TokenFileReport& report) {
  std::vector<std::int64_t> lengths;
  for (const DocumentBounds& d : documents) lengths.push_back(d.end - d.begin);
  if (lengths.empty()) return;
  std::ranges::sort(lengths);
  const auto count = static_cast<double>(lengths.size());
  report.mean_length =
      static_cast<double>(std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0})) / count;
  for (std::size_t i = 0; i < kLengthPercentiles.size(); ++i) {
    const auto rank = static_cast<std::int64_t>(std::ceil(kLengthPercentiles[i] / 100.0 * count));
    report.lengths[i] = lengths[static_cast<std::size_t>(std::max<std::int64_t>(rank - 1, 0))];
  }
}

void add_labels(const LabelMask& mask, const std::vector<DocumentBounds>& documents, std::int64_t tokens,
                TokenFileReport& report) {
  std::vector<std::uint8_t> labels(static_cast<std::size_t>(tokens));
  mask.read(0, labels);
  const auto in = [&](std::int64_t begin, std::int64_t end) {
    return std::accumulate(labels.begin() + begin, labels.begin() + end, std::int64_t{0});
  };
  report.labels = in(0, tokens);
  for (const DocumentBounds& d : documents) report.documents_without_labels += in(d.begin, d.end) == 0;
}

}  // namespace

TokenFileReport inspect_token_file(const fs::path& path, const InspectOptions& options) {
  TokenFileOptions opened = options.file;
  if (opened.vocabulary_size == 0) opened.vocabulary_size = std::numeric_limits<TokenId>::max();
  const TokenFile file(path, opened);
  std::int64_t end_of_text = -1;
  if (file.info()) end_of_text = file.info()->vocabulary.end_of_text;
  if (options.tokenizer != nullptr)
    end_of_text = options.tokenizer->end_of_text().value_or(static_cast<TokenId>(end_of_text));
  TokenFileReport report;
  report.tokens = file.size();
  const auto documents = find_documents(file, end_of_text);
  report.documents = static_cast<std::int64_t>(documents.size());
  add_ids(file, KnownIds(file, options.tokenizer), end_of_text, report);
  add_lengths(documents, report);
  if (file.label_mask() != nullptr) add_labels(*file.label_mask(), documents, file.size(), report);
  return report;
}

}  // namespace braid::data
