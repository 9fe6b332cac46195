// Stretches of tokens that repeat with a short period, and the filter that masks instances which hold long
// ones.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "braid/text/tokenizer.h"

namespace braid::data {

using text::TokenId;

// OLMo-core's instance filter with its numbers.
struct RepetitionFilter {
  std::int64_t min_period = 1, max_period = 13;
  std::int64_t max_repetitions = 32;  // an instance with a run of this many or more is masked
};

// Tokens [begin, end) repeat with that period.
struct Repetition {
  std::int64_t begin = 0, end = 0, period = 0;
  std::int64_t times() const { return (end - begin) / period; }
  friend bool operator==(const Repetition&, const Repetition&) = default;
};

// All runs of at least 3 repeats, by period, then by place. Laying the tokens out in rows of `period` and
// extending equal rows into partial ones, as OLMo-core does, finds exactly the longest stretches in which
// each token equals the one `period` before it: three repeats always hold a whole row that equals the row
// before. Periods over a third of the tokens cannot repeat 3 times. O(tokens · periods).
std::vector<Repetition> find_repetitions(std::span<const TokenId> ids, const RepetitionFilter& filter);

bool is_repetitive(std::span<const TokenId> ids, const RepetitionFilter& filter);

}  // namespace braid::data
