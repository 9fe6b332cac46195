// Token files: header-less flat arrays of little-endian uint16 or uint32 token ids, each document closed by
// the end-of-text id. The layout is OLMo-core's (whose .npy files have no NumPy header either). NAME.u16 and
// NAME.u32 say their width; a sidecar NAME.json says what they hold and how they were made.
#pragma once
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/data/hash.h"
#include "braid/data/label_mask.h"
#include "braid/io/files.h"
#include "braid/text/tokenizer.h"

namespace braid::data {

namespace fs = std::filesystem;
using text::TokenId;

enum class TokenWidth : std::uint8_t { u16 = 2, u32 = 4 };  // bytes of one token
TokenWidth width_for(std::int64_t vocabulary_size);         // u16 up to 65,536 ids
std::optional<TokenWidth> width_of_name(const fs::path& path);
std::string token_file_name(std::string_view stem, std::int64_t vocabulary_size);  // "train.u16"
fs::path sidecar_path(const fs::path& token_file);                                 // NAME.u16 → NAME.json
fs::path bounds_path(const fs::path& token_file);  // NAME.u16, NAME.npy → NAME.csv.gz (document_bounds.h)

// Changes when the tokenizer would write other ids: a hash of the file that restores it.
std::string tokenizer_fingerprint(const text::Tokenizer& tokenizer);

// What the ids of a token file mean.
struct Vocabulary {
  std::int64_t size = 0;  // one past the largest id
  TokenId end_of_text = -1;
  std::string tokenizer = {};  // fingerprint; empty when unknown
};
Vocabulary vocabulary_of(const text::Tokenizer& tokenizer);  // an error when it has no end of text

// The sidecar.
struct TokenFileInfo {
  Vocabulary vocabulary;
  TokenWidth width = TokenWidth::u16;
  std::int64_t documents = 0;        // end-of-text ids in the file
  std::int64_t tokens = 0;           // end-of-text ids included
  std::int64_t text_bytes = 0;       // of the texts before tokenization; end of text counts none
  std::string content_hash = {};     // Hash64 of the token file's bytes
  std::string label_mask = {};       // name of the label mask beside the file; empty: there is none
  std::string label_mask_hash = {};  // Hash64 of its bytes; empty: unknown
  nlohmann::json made = nlohmann::json::object();  // how it was made, for people and for up-to-date checks
};
TokenFileInfo parse_token_file_info(std::string_view json, const std::string& source);
std::string format_token_file_info(const TokenFileInfo& info);

// Writes a token file front to back. Nothing appears under its name before commit().
class TokenFileWriter {
 public:
  // The name must end in .u16 or .u32, wide enough for the vocabulary.
  TokenFileWriter(const fs::path& path, const Vocabulary& vocabulary);

  // Ids as they are; `text_bytes` is the length of the text they stand for.
  void append(std::span<const TokenId> ids, std::int64_t text_bytes);
  void append_document(std::span<const TokenId> ids, std::int64_t text_bytes);  // and the end of text
  // With one label for each id, 1 where it may be a target: they go into NAME.mask, which the sidecar names.
  // All of a file's ids come with labels, or none.
  void append_labelled(std::span<const TokenId> ids, std::span<const std::uint8_t> labels,
                       std::int64_t text_bytes);
  const TokenFileInfo& info() const { return info_; }
  // Durable and atomic; the sidecar comes last, so that it never describes other tokens. A list of document
  // bounds that is there from an earlier file of this name is removed.
  TokenFileInfo commit(nlohmann::json made = nlohmann::json::object());

 private:
  void append_ids(std::span<const TokenId> ids, std::int64_t text_bytes);
  void flush();

  fs::path path_;
  io::AtomicFile file_;
  TokenFileInfo info_;
  Hash64 hash_, mask_hash_;
  std::vector<std::byte> buffer_;
  std::optional<io::AtomicFile> mask_;
};

struct TokenFileOptions {
  std::optional<TokenWidth> width = {};  // where the name does not say it
  std::int64_t vocabulary_size = 0;  // ids must be below it; 0: from the sidecar, which must then be there
  std::string tokenizer = {};        // fingerprint that a sidecar must carry; empty: any
  fs::path label_mask = {};          // empty: the one that the sidecar names, if it does
};

struct TokenScan {
  std::int64_t documents = 0;  // end-of-text ids; tokens after the last one are not counted as a document
  TokenId largest = 0;
  std::string content_hash;
};

// A memory-mapped token file. Opening checks the size and the sidecar; ids are checked as they are read.
class TokenFile {
 public:
  explicit TokenFile(const fs::path& path, const TokenFileOptions& options = {});

  std::int64_t size() const { return size_; }  // tokens
  std::int64_t vocabulary_size() const { return vocabulary_size_; }
  TokenWidth width() const { return width_; }
  const fs::path& path() const { return file_.path(); }
  const std::optional<TokenFileInfo>& info() const { return info_; }  // absent without a sidecar

  // Tokens [first, first + ids.size()). An id outside the vocabulary is an error naming file and position.
  void read(std::int64_t first, std::span<TokenId> ids) const;
  const LabelMask* label_mask() const {
    return label_mask_ ? &*label_mask_ : nullptr;
  }  // null: all are labels
  // The numbers as they are stored, with no look at the vocabulary.
  void read_stored(std::int64_t first, std::span<std::uint32_t> numbers) const;
  // Tells contents apart where no sidecar does: XXH3 of all bytes up to 1 MiB, of a larger file of 16 blocks
  // of 64 KiB spread evenly from its first byte to its last. So other documents, another order and tokens
  // that were inserted or taken out show; a few bytes changed between the blocks of a large file do not.
  std::string sample_hash() const;
  // Reads and checks everything.
  TokenScan scan(TokenId end_of_text) const;
  // Scans, and compares with the sidecar, which must be there.
  void verify() const;

 private:
  void read_sidecar(const TokenFileOptions& options);

  io::MappedFile file_;
  TokenWidth width_ = TokenWidth::u16;
  std::int64_t size_ = 0, vocabulary_size_ = 0;
  std::optional<TokenFileInfo> info_;
  std::optional<LabelMask> label_mask_;
};

}  // namespace braid::data
