#include "braid/data/text_bytes.h"

#include <numbers>

#include "braid/core/error.h"

namespace braid::data {

std::vector<std::int32_t> token_bytes(const text::Tokenizer& tokenizer) {
  std::vector<std::int32_t> bytes(static_cast<std::size_t>(tokenizer.vocabulary_size()), -1);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto id = static_cast<text::TokenId>(i);
    try {
      bytes[i] = static_cast<std::int32_t>(tokenizer.decode(std::span(&id, 1)).size());
    } catch (const Error&) {  // a hole in the vocabulary
    }
  }
  if (const auto end = tokenizer.end_of_text()) bytes.at(static_cast<std::size_t>(*end)) = 0;
  return bytes;
}

std::int64_t text_bytes(std::span<const std::int32_t> targets, std::span<const std::int32_t> token_bytes) {
  std::int64_t total = 0;
  for (const std::int32_t target : targets) {
    if (target < 0) continue;
    const auto id = static_cast<std::size_t>(target);
    require(id < token_bytes.size() && token_bytes[id] >= 0,
            "target {} is not a token of this tokenizer ({} ids)", target, token_bytes.size());
    total += token_bytes[id];
  }
  return total;
}

double bits_per_byte(double nll_sum, std::int64_t bytes) {
  require(bytes > 0, "bits per byte of {} bytes of text is not defined", bytes);
  return nll_sum / (std::numbers::ln2 * static_cast<double>(bytes));
}

}  // namespace braid::data
