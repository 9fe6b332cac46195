#include <algorithm>

#include "braid/core/error.h"
#include "braid/text/chat.h"
#include "braid/text/tokenizer.h"

namespace braid::text {
namespace {

// Their ids are 256 and on, in this order. Each begins with `<`.
constexpr std::string_view kAddedTokens[] = {"<|endoftext|>", kMessageStart, kMessageEnd};
constexpr TokenId kBytes = 256, kEndOfText = 256;

class ByteTokenizer : public Tokenizer {
 public:
  explicit ByteTokenizer(ByteMarkers markers)
      : added_(std::span(kAddedTokens).first(markers == ByteMarkers::chat ? 3 : 1)) {}

  std::vector<TokenId> encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    ids.reserve(text.size());
    while (!text.empty()) {
      const auto found =
          std::ranges::find_if(added_, [&](std::string_view token) { return text.starts_with(token); });
      const bool is_added = found != added_.end();
      ids.push_back(is_added ? kBytes + static_cast<TokenId>(found - added_.begin())
                             : static_cast<TokenId>(static_cast<std::uint8_t>(text[0])));
      text.remove_prefix(is_added ? found->size() : 1);
    }
    return ids;
  }

  std::string decode(std::span<const TokenId> ids) const override {
    std::string text;
    for (const TokenId id : ids) {
      require(id >= 0 && id < vocabulary_size(), "cannot decode id {}: the byte vocabulary has {} ids", id,
              vocabulary_size());
      if (id >= kBytes) {
        text += added_[static_cast<std::size_t>(id - kBytes)];
      } else {
        text += static_cast<char>(id);
      }
    }
    return text;
  }

  std::int64_t vocabulary_size() const override { return kBytes + static_cast<std::int64_t>(added_.size()); }
  std::optional<TokenId> end_of_text() const override { return kEndOfText; }
  std::string_view file_name() const override { return "braid_tokenizer.json"; }
  std::string file_content() const override {
    return added_.size() > 1 ? "{\"type\": \"byte\", \"chat_markers\": true}\n" : "{\"type\": \"byte\"}\n";
  }

 private:
  std::span<const std::string_view> added_;
};

}  // namespace

std::unique_ptr<Tokenizer> byte_tokenizer(ByteMarkers markers) {
  return std::make_unique<ByteTokenizer>(markers);
}

}  // namespace braid::text
