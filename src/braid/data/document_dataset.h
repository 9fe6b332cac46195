// Datasets of whole documents, which begin inside an instance and end in it.
#pragma once
#include <functional>

#include "braid/data/dataset.h"
#include "braid/data/document_bounds.h"

namespace braid::data {

// Documents longer than an instance.
enum class LongDocuments : std::uint8_t {
  truncate,  // what does not fit is dropped
  fragment,  // cut into pieces of an instance's length, and a rest
};

struct DocumentOptions {
  std::int64_t sequence_length = 0;
  TokenId end_of_text = -1;  // closes the documents of files without a list of bounds
  TokenId pad = -1;          // fills instances up; never a target, seen by nothing that is
  LongDocuments long_documents = LongDocuments::truncate;
  // Files whose documents may share an instance: that many, one after another, are packed together.
  std::int64_t source_group_size = 1;
  std::function<void()> before_file = {};  // called before each file is read; may throw to stop
};

// Instances that are made of pieces of documents and a padded tail.
class DocumentDataset : public Dataset {
 public:
  std::int64_t size() const override { return static_cast<std::int64_t>(ends_.size()); }
  std::int64_t sequence_length() const override { return options_.sequence_length; }
  std::int64_t documents() const { return documents_; }
  std::int64_t dropped_tokens() const { return dropped_tokens_; }  // of documents that were truncated
  std::int64_t padding() const { return padding_; }                // over all instances
  std::string layout_hash() const { return layout_.hex(); }  // of where each instance's pieces come from
  void read(std::int64_t index, Instance& out) const override;

 protected:
  DocumentDataset(std::vector<TokenFile> files, const DocumentOptions& options);

  struct Piece {
    std::uint32_t file = 0, tokens = 0;
    std::int64_t first = 0;
  };
  // The documents of the files [first, last), cut as the options say.
  std::vector<Piece> pieces_of(std::size_t first, std::size_t last);
  void add_instance(std::span<const Piece> pieces);
  void require_instances() const;
  const std::vector<TokenFile>& files() const { return files_; }
  const DocumentOptions& options() const { return options_; }

 private:
  std::vector<TokenFile> files_;
  DocumentOptions options_;
  std::vector<Piece> pieces_;       // by instance
  std::vector<std::int64_t> ends_;  // one past each instance's last piece
  std::int64_t documents_ = 0, dropped_tokens_ = 0, padding_ = 0;
  Hash64 layout_;
};

// As many documents in an instance as fit, by best-fit-decreasing packing (packing.h). Which ones depends on
// the files, their order and the options alone.
class PackedDataset : public DocumentDataset {
 public:
  PackedDataset(std::vector<TokenFile> files, const DocumentOptions& options);
};

// One document, or piece of one, in an instance; in file order. For validation.
class PaddedDataset : public DocumentDataset {
 public:
  PaddedDataset(std::vector<TokenFile> files, const DocumentOptions& options);
};

}  // namespace braid::data
