#include "braid/data/document_dataset.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "braid/data/packing.h"

namespace braid::data {

DocumentDataset::DocumentDataset(std::vector<TokenFile> files, const DocumentOptions& options)
    : files_(std::move(files)), options_(options) {
  require(options.sequence_length >= 2, "sequence length {} leaves nothing to predict; it must be at least 2",
          options.sequence_length);
  require(options.sequence_length <= std::numeric_limits<std::int32_t>::max(),
          "sequence length {} is too large to pack documents into", options.sequence_length);
  require(!files_.empty(), "a dataset needs at least one token file");
  require(options.source_group_size >= 1, "the source group size is {}, it must be at least 1 file",
          options.source_group_size);
  for (const TokenFile& file : files_) {
    require(options.pad >= 0 && options.pad < file.vocabulary_size(),
            "{}: the pad id {} is outside the vocabulary of {}", file.path().string(), options.pad,
            file.vocabulary_size());
  }
}

std::vector<DocumentDataset::Piece> DocumentDataset::pieces_of(std::size_t first, std::size_t last) {
  std::vector<Piece> pieces;
  for (std::size_t f = first; f < last; ++f) {
    if (options_.before_file) options_.before_file();
    for (const DocumentBounds& document : document_bounds(files_[f], options_.end_of_text)) {
      ++documents_;
      for (std::int64_t begin = document.begin; begin < document.end;) {
        const auto tokens = std::min(document.end - begin, options_.sequence_length);
        pieces.push_back({static_cast<std::uint32_t>(f), static_cast<std::uint32_t>(tokens), begin});
        begin += tokens;
        if (options_.long_documents == LongDocuments::truncate) {
          dropped_tokens_ += document.end - begin;
          break;
        }
      }
    }
  }
  return pieces;
}

void DocumentDataset::add_instance(std::span<const Piece> pieces) {
  std::int64_t room = options_.sequence_length;
  for (const Piece& piece : pieces) {
    room -= piece.tokens;
    layout_.update(std::uint64_t{piece.file}).update(static_cast<std::uint64_t>(piece.first));
    layout_.update(std::uint64_t{piece.tokens});
  }
  layout_.update(static_cast<std::uint64_t>(room));
  padding_ += room;
  pieces_.insert(pieces_.end(), pieces.begin(), pieces.end());
  ends_.push_back(static_cast<std::int64_t>(pieces_.size()));
}

void DocumentDataset::require_instances() const {
  require(size() > 0, "{}: the list of documents beside it is empty", files_.front().path().string());
}

void DocumentDataset::read(std::int64_t index, Instance& out) const {
  require(index >= 0 && index < size(), "instance {} is outside the dataset of {}", index, size());
  const auto i = static_cast<std::size_t>(index);
  const auto begin = static_cast<std::size_t>(i == 0 ? 0 : ends_[i - 1]);
  const auto pieces = std::span(pieces_).subspan(begin, static_cast<std::size_t>(ends_[i]) - begin);
  const auto length = static_cast<std::size_t>(options_.sequence_length);
  const bool labelled =
      std::ranges::any_of(pieces, [&](const Piece& p) { return files_[p.file].label_mask() != nullptr; });
  out.ids.assign(length, options_.pad);
  out.labels.assign(labelled ? length : 0, 1);
  out.documents.clear();
  std::size_t at = 0;
  for (const Piece& piece : pieces) {
    out.documents.push_back(static_cast<std::int64_t>(at));
    const TokenFile& file = files_[piece.file];
    file.read(piece.first, std::span(out.ids).subspan(at, piece.tokens));
    if (file.label_mask() != nullptr) {
      file.label_mask()->read(piece.first, std::span(out.labels).subspan(at, piece.tokens));
    }
    at += piece.tokens;
  }
  out.padding = static_cast<std::int64_t>(length - at);
}

PackedDataset::PackedDataset(std::vector<TokenFile> token_files, const DocumentOptions& options)
    : DocumentDataset(std::move(token_files), options) {
  const auto group = static_cast<std::size_t>(options.source_group_size);
  for (std::size_t first = 0; first < files().size(); first += group) {
    const auto pieces = pieces_of(first, std::min(first + group, files().size()));
    std::vector<std::int64_t> lengths;
    for (const Piece& piece : pieces) lengths.push_back(piece.tokens);
    const Packing packing = pack_best_fit(lengths, options.sequence_length);
    std::vector<Piece> together;
    std::int64_t begin = 0;
    for (const std::int64_t end : packing.ends) {
      together.clear();
      for (; begin < end; ++begin) {
        together.push_back(pieces[static_cast<std::size_t>(packing.items[static_cast<std::size_t>(begin)])]);
      }
      add_instance(together);
    }
  }
  require_instances();
}

PaddedDataset::PaddedDataset(std::vector<TokenFile> token_files, const DocumentOptions& options)
    : DocumentDataset(std::move(token_files), options) {
  for (const Piece& piece : pieces_of(0, files().size())) add_instance({&piece, 1});
  require_instances();
}

}  // namespace braid::data
