#include "braid/data/token_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "braid/io/checksums.h"

namespace braid::data {
namespace {

static_assert(std::endian::native == std::endian::little,
              "token files are read and written in host byte order");

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
constexpr std::size_t kSampleBlocks = 16, kSampleBlockBytes = std::size_t{64} << 10;
constexpr std::int64_t kScanTokens = std::int64_t{1} << 16;
constexpr std::int64_t kLargestVocabulary = std::numeric_limits<TokenId>::max();

std::int64_t bytes_of(TokenWidth width) { return static_cast<std::int64_t>(width); }

template <class Stored>
void copy_checked(std::span<TokenId> ids, const std::byte* from, const TokenFile& file, std::int64_t first) {
  const auto bound = static_cast<std::uint32_t>(file.vocabulary_size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Stored id;
    std::memcpy(&id, from + i * sizeof id, sizeof id);
    require(id < bound, "{}: token {} is {}, outside the vocabulary of {}; wrong tokenizer or width?",
            file.path().string(), first + static_cast<std::int64_t>(i), id, bound);
    ids[i] = static_cast<TokenId>(id);
  }
}

TokenWidth resolve_width(const fs::path& path, std::optional<TokenWidth> given) {
  const std::optional<TokenWidth> named = width_of_name(path);
  require(named || given,
          "{}: the name does not say how wide a token is; name it .u16 or .u32, or give the width",
          path.string());
  require(!named || !given || *named == *given, "{}: read with {} bytes a token, but the name says {}",
          path.string(), given ? bytes_of(*given) : 0, named ? bytes_of(*named) : 0);
  return named ? *named : *given;
}

void check_bytes(std::span<const std::byte> bytes, TokenWidth width, const fs::path& path) {
  constexpr std::string_view kNumpy = "\x93NUMPY";
  require(!bytes.empty(), "{}: the token file is empty", path.string());
  require(static_cast<std::int64_t>(bytes.size()) % bytes_of(width) == 0,
          "{}: {} bytes are not a whole number of {}-byte tokens; the file is cut off or of another width",
          path.string(), bytes.size(), bytes_of(width));
  require(path.extension() != ".npy" || bytes.size() < kNumpy.size() ||
              std::memcmp(bytes.data(), kNumpy.data(), kNumpy.size()) != 0,
          "{}: has a NumPy header; token files are flat arrays, save with array.tofile()", path.string());
}

}  // namespace

TokenWidth width_for(std::int64_t vocabulary_size) {
  require(vocabulary_size > 0 && vocabulary_size <= kLargestVocabulary,
          "a vocabulary of {} ids does not fit token files; expected 1 to {}", vocabulary_size,
          kLargestVocabulary);
  return vocabulary_size <= 65536 ? TokenWidth::u16 : TokenWidth::u32;
}

std::optional<TokenWidth> width_of_name(const fs::path& path) {
  if (path.extension() == ".u16") return TokenWidth::u16;
  if (path.extension() == ".u32") return TokenWidth::u32;
  return std::nullopt;
}

std::string token_file_name(std::string_view stem, std::int64_t vocabulary_size) {
  return fmt::format("{}.{}", stem, width_for(vocabulary_size) == TokenWidth::u16 ? "u16" : "u32");
}

fs::path sidecar_path(const fs::path& token_file) { return fs::path(token_file).replace_extension(".json"); }
fs::path bounds_path(const fs::path& token_file) { return fs::path(token_file).replace_extension(".csv.gz"); }

std::string tokenizer_fingerprint(const text::Tokenizer& tokenizer) {
  return Hash64()
      .update(tokenizer.file_name())
      .update(std::uint64_t{0})
      .update(tokenizer.file_content())
      .hex();
}

Vocabulary vocabulary_of(const text::Tokenizer& tokenizer) {
  const std::optional<TokenId> end = tokenizer.end_of_text();
  require(end.has_value(),
          "the tokenizer has no end-of-text token, which closes each document of a token file");
  return {tokenizer.vocabulary_size(), *end, tokenizer_fingerprint(tokenizer)};
}

TokenFileWriter::TokenFileWriter(const fs::path& path, const Vocabulary& vocabulary)
    : path_(path), file_(path) {
  const TokenWidth narrowest = width_for(vocabulary.size);
  info_.vocabulary = vocabulary;
  info_.width = resolve_width(path, std::nullopt);
  require(info_.width >= narrowest, "{}: ids of a vocabulary of {} need 4 bytes; name the file .u32",
          path.string(), vocabulary.size);
  require(vocabulary.end_of_text >= 0 && vocabulary.end_of_text < vocabulary.size,
          "{}: end of text {} is outside the vocabulary of {}", path.string(), vocabulary.end_of_text,
          vocabulary.size);
  buffer_.reserve(kBufferBytes + sizeof(std::uint32_t));
}

void TokenFileWriter::append_labelled(std::span<const TokenId> ids, std::span<const std::uint8_t> labels,
                                      std::int64_t text_bytes) {
  require(ids.size() == labels.size(), "{}: {} labels for {} tokens", path_.string(), labels.size(),
          ids.size());
  require(mask_ || info_.tokens == 0, "{}: tokens with labels after tokens without", path_.string());
  for (const std::uint8_t label : labels)
    require(label <= 1, "{}: label {}, expected 0 or 1", path_.string(), label);
  if (!mask_) mask_.emplace(label_mask_path(path_));
  const auto bytes = std::as_bytes(labels);
  mask_hash_.update(bytes);
  mask_->write(bytes);
  append_ids(ids, text_bytes);
}

void TokenFileWriter::append(std::span<const TokenId> ids, std::int64_t text_bytes) {
  require(!mask_, "{}: tokens without labels after tokens with them", path_.string());
  append_ids(ids, text_bytes);
}

void TokenFileWriter::append_ids(std::span<const TokenId> ids, std::int64_t text_bytes) {
  const auto width = static_cast<std::size_t>(info_.width);
  for (const TokenId id : ids) {
    require(id >= 0 && id < info_.vocabulary.size,
            "{}: cannot write token {} of {}: outside the vocabulary of {}", path_.string(), id, info_.tokens,
            info_.vocabulary.size);
    const auto stored = static_cast<std::uint32_t>(id);  // little-endian, so the low bytes come first
    const auto* bytes = reinterpret_cast<const std::byte*>(&stored);
    buffer_.insert(buffer_.end(), bytes, bytes + width);
    if (buffer_.size() >= kBufferBytes) flush();
    ++info_.tokens;
    if (id == info_.vocabulary.end_of_text) ++info_.documents;
  }
  info_.text_bytes += text_bytes;
}

void TokenFileWriter::append_document(std::span<const TokenId> ids, std::int64_t text_bytes) {
  append(ids, text_bytes);
  append(std::span(&info_.vocabulary.end_of_text, 1), 0);
}

void TokenFileWriter::flush() {
  hash_.update(buffer_);
  file_.write(buffer_);
  buffer_.clear();
}

TokenFileInfo TokenFileWriter::commit(nlohmann::json made) {
  require(info_.tokens > 0, "{}: nothing to write, a token file holds at least one token", path_.string());
  flush();
  info_.content_hash = hash_.hex();
  info_.made = std::move(made);
  const fs::path sidecar = sidecar_path(path_);
  for (const fs::path& earlier : {sidecar, bounds_path(path_)}) {  // of an earlier file of this name
    std::error_code error;
    fs::remove(earlier, error);
    require(!error, "cannot remove {}: {}", earlier.string(), error.message());
  }
  if (mask_) {
    info_.label_mask = label_mask_path(path_).filename().string();
    info_.label_mask_hash = mask_hash_.hex();
    mask_->commit();
  }
  file_.commit();
  io::write_file(sidecar, format_token_file_info(info_));
  return info_;
}

TokenFile::TokenFile(const fs::path& path, const TokenFileOptions& options)
    : file_(path), width_(resolve_width(path, options.width)), vocabulary_size_(options.vocabulary_size) {
  check_bytes(file_.bytes(), width_, path);
  size_ = static_cast<std::int64_t>(file_.bytes().size()) / bytes_of(width_);
  read_sidecar(options);
  require(vocabulary_size_ != 0, "{}: no sidecar {}, so the vocabulary size must be given", path.string(),
          sidecar_path(path).string());
  width_for(vocabulary_size_);  // checks its range
  if (!options.label_mask.empty()) {
    label_mask_.emplace(options.label_mask, size_);
  } else if (info_ && !info_->label_mask.empty()) {
    label_mask_.emplace(fs::path(path).replace_filename(info_->label_mask), size_);
  }
}

void TokenFile::read_sidecar(const TokenFileOptions& options) {
  const fs::path sidecar = sidecar_path(path());
  std::error_code error;
  if (!fs::exists(sidecar, error) || sidecar == path()) return;
  const std::string name = sidecar.string();
  info_ = parse_token_file_info(io::read_file(sidecar), name);
  require(info_->width == width_, "{}: describes {}-byte tokens, but {} is read with {}", name,
          bytes_of(info_->width), path().string(), bytes_of(width_));
  require(info_->tokens == size_, "{}: describes {} tokens, but {} holds {}; build it again", name,
          info_->tokens, path().string(), size_);
  const std::string& made_with = info_->vocabulary.tokenizer;  // empty: the sidecar does not say
  require(options.tokenizer.empty() || made_with.empty() || made_with == options.tokenizer,
          "{}: made with tokenizer {}, but read with {}; build the token files with this tokenizer", name,
          made_with, options.tokenizer);
  require(options.vocabulary_size == 0 || info_->vocabulary.size <= options.vocabulary_size,
          "{}: made with a vocabulary of {}, larger than the {} that is expected", name,
          info_->vocabulary.size, options.vocabulary_size);
  vocabulary_size_ = info_->vocabulary.size;
}

void TokenFile::read(std::int64_t first, std::span<TokenId> ids) const {
  const auto count = static_cast<std::int64_t>(ids.size());
  require(first >= 0 && first <= size_ && count <= size_ - first, "{}: tokens {} to {} are outside its {}",
          path().string(), first, first + count, size_);
  const std::byte* from = file_.bytes().data() + first * bytes_of(width_);
  if (width_ == TokenWidth::u16) {
    copy_checked<std::uint16_t>(ids, from, *this, first);
  } else {
    copy_checked<std::uint32_t>(ids, from, *this, first);
  }
}

void TokenFile::read_stored(std::int64_t first, std::span<std::uint32_t> numbers) const {
  const auto count = static_cast<std::int64_t>(numbers.size());
  require(first >= 0 && first <= size_ && count <= size_ - first, "{}: tokens {} to {} are outside its {}",
          path().string(), first, first + count, size_);
  const std::byte* from = file_.bytes().data() + first * bytes_of(width_);
  for (std::uint32_t& number : numbers) {
    number = 0;  // little-endian, so the low bytes come first
    std::memcpy(&number, from, static_cast<std::size_t>(width_));
    from += bytes_of(width_);
  }
}

std::string TokenFile::sample_hash() const {
  const auto all = file_.bytes();
  if (all.size() <= kSampleBlocks * kSampleBlockBytes) return io::checksum(all);
  std::vector<std::byte> sample;
  for (std::size_t i = 0; i < kSampleBlocks; ++i) {
    const auto begin = (all.size() - kSampleBlockBytes) * i / (kSampleBlocks - 1);
    const auto block = all.subspan(begin, kSampleBlockBytes);
    sample.insert(sample.end(), block.begin(), block.end());
  }
  return io::checksum(sample);
}

TokenScan TokenFile::scan(TokenId end_of_text) const {
  TokenScan result;
  std::vector<TokenId> ids(static_cast<std::size_t>(std::min(size_, kScanTokens)));
  for (std::int64_t first = 0; first < size_; first += kScanTokens) {
    const auto part = std::span(ids).first(static_cast<std::size_t>(std::min(size_ - first, kScanTokens)));
    read(first, part);
    for (const TokenId id : part) {
      result.documents += id == end_of_text;
      result.largest = std::max(result.largest, id);
    }
  }
  result.content_hash = Hash64().update(file_.bytes()).hex();
  return result;
}

void TokenFile::verify() const {
  require(info_.has_value(), "{}: cannot verify, there is no sidecar {}", path().string(),
          sidecar_path(path()).string());
  const TokenScan found = scan(info_->vocabulary.end_of_text);
  require(found.documents == info_->documents, "{}: holds {} documents, but its sidecar says {}",
          path().string(), found.documents, info_->documents);
  require(found.content_hash == info_->content_hash,
          "{}: content hash {} differs from the sidecar's {}: the file has changed", path().string(),
          found.content_hash, info_->content_hash);
}

}  // namespace braid::data
