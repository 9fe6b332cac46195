// What is in a token file.
#pragma once
#include <array>
#include <optional>
#include <vector>

#include "braid/data/token_file.h"

namespace braid::data {

struct InspectOptions {
  TokenFileOptions file = {};                  // width and label mask, where name and sidecar do not say them
  const text::Tokenizer* tokenizer = nullptr;  // may be null: ids are then not checked against one
};

inline constexpr std::array kLengthPercentiles = {0, 5, 25, 50, 75, 95, 99, 100};

struct TokenFileReport {
  std::int64_t tokens = 0, documents = 0;  // those after the last end of text are a document too
  std::int64_t open_tokens = 0;            // after the last end of text
  std::int64_t largest = 0;                // id
  std::int64_t unknown = 0;                // ids that the tokenizer, or else the sidecar's vocabulary, lacks
  std::optional<std::int64_t> first_unknown;  // its place in the file
  double mean_length = 0;                     // of documents, in tokens, ends of text included
  std::array<std::int64_t, kLengthPercentiles.size()> lengths{};  // nearest rank
  std::optional<std::int64_t> labels;  // tokens that may be targets; none: no label mask
  std::int64_t documents_without_labels = 0;
};

// Needs an end of text, from the tokenizer, the sidecar, or a list of document bounds beside the file.
TokenFileReport inspect_token_file(const fs::path& path, const InspectOptions& options);

}  // namespace braid::data
