// Bits per byte: a loss that does not depend on the tokenizer.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "braid/text/tokenizer.h"

namespace braid::data {

// How many bytes of text each id stands for: its decoded length. The end of text stands for none; other
// special tokens for their text; ids that the tokenizer does not know are -1.
std::vector<std::int32_t> token_bytes(const text::Tokenizer& tokenizer);

// Bytes of text that the targets stand for; negative targets (nothing to predict) count none.
std::int64_t text_bytes(std::span<const std::int32_t> targets, std::span<const std::int32_t> token_bytes);

// Σ nll over all predicted tokens, ends of text included, in nats, as bits per byte of the predicted text:
// nll_sum / (ln 2 · bytes). The first token of each instance is not predicted and counts on neither side.
double bits_per_byte(double nll_sum, std::int64_t bytes);

}  // namespace braid::data
