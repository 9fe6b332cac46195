// Documents from text corpora: JSON Lines and plain text, compressed or not, alone or in folders.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace braid::data {

namespace fs = std::filesystem;

struct Document {
  std::string id;      // field `id` (string or integer), or FILE:LINE, or the name of a .txt file
  std::string source;  // field `source`, or empty
  std::string text;    // the bytes as they are; JSON itself demands UTF-8, .txt may hold anything
};

inline constexpr std::string_view kDocumentEndings = ".jsonl .jsonl.gz .jsonl.zst .txt .txt.gz .txt.zst";

// The ending of kDocumentEndings that the name carries; an error naming them all when there is none.
std::string_view document_ending(const fs::path& path);

// `path` itself, or the files below a folder in byte order of their relative paths, hidden names left out.
// Every name is checked before any file is read.
std::vector<fs::path> document_files(const fs::path& path);

// Calls fn for each document of a file or folder, in order; fn returns false to stop early. In JSON Lines
// each line that is not blank is an object whose field `text` is a string; other fields than id, source and
// text are ignored. A .txt file is one document. Memory is bounded by the longest line or .txt file (at most
// 1 GiB). Errors name file, line and field.
using DocumentFunction = std::function<bool(Document&& document)>;
void for_each_document(const fs::path& path, const DocumentFunction& fn);

// One line of a JSON Lines file, which it and its number name in errors. Blank ones are no documents.
Document parse_document(std::string_view line, const fs::path& path, std::int64_t number);
bool is_blank(std::string_view line);

}  // namespace braid::data
