// Text to token ids and back.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace braid::text {

using TokenId = std::int32_t;

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // Ids of `text` (any bytes; special tokens that occur in the text are recognised as the file says).
  virtual std::vector<TokenId> encode(std::string_view text) const = 0;
  // The exact bytes of the ids, special tokens included as their text. Unknown ids are an error.
  virtual std::string decode(std::span<const TokenId> ids) const = 0;
  virtual std::int64_t vocabulary_size() const = 0;        // one past the largest id
  virtual std::optional<TokenId> end_of_text() const = 0;  // closes a document
  // What to write into a model directory so that load_tokenizer() restores it: file name and content.
  virtual std::string_view file_name() const = 0;
  virtual std::string file_content() const = 0;
};

enum class ByteMarkers : std::uint8_t {
  none,  // what {"type": "byte"} says: models from before there were others
  chat,  // the chat format's markers are single tokens, too
};
// For small models: 256 byte values, then <|endoftext|> = 256, <|im_start|> = 257 and <|im_end|> = 258.
// Vocabulary 259; without the chat format's markers 257.
std::unique_ptr<Tokenizer> byte_tokenizer(ByteMarkers markers = ByteMarkers::chat);

// "byte", a tokenizer.json (plain or .gz), or a model directory that holds one (tokenizer.json, or
// braid_tokenizer.json = {"type": "byte", "chat_markers": true}). Errors name file and field.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path);
// The same from the text of a tokenizer.json; `source` names it in errors.
std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view json, const std::string& source);

// Streams decoded text: push() returns only whole UTF-8 characters (invalid bytes pass through as they are,
// once they cannot become valid); finish() returns what is left, byte for byte.
class StreamingDecoder {
 public:
  explicit StreamingDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  std::string push(TokenId id);
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;
};

}  // namespace braid::text
