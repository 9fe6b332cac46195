// Where the documents of a token file begin and end, and OLMo-core's optional list of it: NAME.csv.gz, one
// line "start,end" for each document in the file's order; further columns are ignored.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "braid/data/token_file.h"

namespace braid::data {

// Tokens [begin, end), the end of text that closes the document included.
struct DocumentBounds {
  std::int64_t begin = 0, end = 0;
  friend bool operator==(const DocumentBounds&, const DocumentBounds&) = default;
};

// Errors name file, line and column. Documents must not overlap or go back, nor pass `tokens`; empty ones are
// left out.
std::vector<DocumentBounds> read_document_bounds(const fs::path& path, std::int64_t tokens);
void write_document_bounds(const fs::path& path, std::span<const DocumentBounds> documents);

// From the list beside the file if there is one, else by looking for ends of text; tokens after the last of
// them are a document too.
std::vector<DocumentBounds> document_bounds(const TokenFile& file, TokenId end_of_text);

}  // namespace braid::data
