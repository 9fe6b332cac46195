#include <algorithm>
#include <utility>

#include "braid/text/tokenizer.h"
#include "braid/text/utf8.h"

namespace braid::text {

std::string StreamingDecoder::push(TokenId id) {
  pending_ += tokenizer_.decode({&id, 1});
  // Only the last one to three bytes can be an unfinished character; at most one of these lengths starts one.
  std::size_t held = 0;
  for (std::size_t n = 1; n <= std::min<std::size_t>(3, pending_.size()); ++n) {
    if (is_character_start(std::string_view(pending_).substr(pending_.size() - n))) held = n;
  }
  std::string held_bytes = pending_.substr(pending_.size() - held);
  pending_.resize(pending_.size() - held);
  return std::exchange(pending_, std::move(held_bytes));
}

std::string StreamingDecoder::finish() { return std::exchange(pending_, {}); }

}  // namespace braid::text
