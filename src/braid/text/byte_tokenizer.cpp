#include "braid/core/error.h"
#include "braid/text/tokenizer.h"

namespace braid::text {
namespace {

constexpr std::string_view kEndOfText = "<|endoftext|>";
constexpr TokenId kEndOfTextId = 256;

class ByteTokenizer : public Tokenizer {
 public:
  std::vector<TokenId> encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    while (!text.empty()) {
      const bool end = text.starts_with(kEndOfText);
      ids.push_back(end ? kEndOfTextId : static_cast<TokenId>(static_cast<std::uint8_t>(text[0])));
      text.remove_prefix(end ? kEndOfText.size() : 1);
    }
    return ids;
  }

  std::string decode(std::span<const TokenId> ids) const override {
    std::string text;
    for (const TokenId id : ids) {
      require(id >= 0 && id <= kEndOfTextId, "cannot decode id {}: the byte vocabulary has 257 ids", id);
      if (id == kEndOfTextId) {
        text += kEndOfText;
      } else {
        text += static_cast<char>(id);
      }
    }
    return text;
  }

  std::int64_t vocabulary_size() const override { return kEndOfTextId + 1; }
  std::optional<TokenId> end_of_text() const override { return kEndOfTextId; }
  std::string_view file_name() const override { return "braid_tokenizer.json"; }
  std::string file_content() const override { return "{\"type\": \"byte\"}\n"; }
};

}  // namespace

std::unique_ptr<Tokenizer> byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace braid::text
