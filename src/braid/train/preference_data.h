// Preference pairs: one prompt, a chosen and a rejected response.
#pragma once
#include <string>
#include <vector>

#include "braid/data/batches.h"
#include "braid/text/chat.h"
#include "braid/train/datasets.h"

namespace braid::train {

struct PreferencePair {
  text::ChatTokens chosen, rejected;  // prompt and response; the response's tokens are the targets
};

struct Preferences {
  std::vector<PreferencePair> pairs;
  std::int64_t left_out = 0;  // pairs of which one sequence is longer than the limit
  std::string hash;           // of all tokens and targets
};

// Reads one JSON object {"prompt", "chosen", "rejected"} a line from .jsonl files (.gz, .zst). A prompt that
// is an array of messages takes the chat format, and the responses end with its <|im_end|>; a prompt that is
// a text stands as it is, and the responses end with the end of text. Errors name file, line and field.
Preferences read_preferences(const std::vector<fs::path>& files, const text::Tokenizer& tokenizer,
                             std::int64_t sequence_length, const StopFunction& stop = {});

// Two rows for each of these pairs, chosen before rejected, padded with `padding`. Targets are the responses
// alone.
data::Batch assemble_pairs(const Preferences& preferences, std::span<const std::int64_t> pairs,
                           std::int64_t sequence_length, text::TokenId padding);

}  // namespace braid::train
