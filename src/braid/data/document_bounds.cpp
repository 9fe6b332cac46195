#include "braid/data/document_bounds.h"

#include <algorithm>
#include <charconv>

#include "braid/io/compressed.h"
#include "braid/io/quote.h"

namespace braid::data {
namespace {

constexpr std::int64_t kScanTokens = std::int64_t{1} << 16;

// The number in front of the next comma, or the whole rest; takes both from `rest`.
std::int64_t take_number(std::string_view& rest, const char* column, const std::string& where) {
  const auto end = std::min(rest.find(','), rest.size());
  const std::string_view text = rest.substr(0, end);
  std::int64_t number = -1;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool ok = error == std::errc() && stop == text.data() + text.size() && number >= 0;
  require(ok, "{}: the {} is {}, expected a token index; lines are 'start,end'", where, column,
          io::in_quotes(text.substr(0, 40)));
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return number;
}

std::string_view without_return(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace

std::vector<DocumentBounds> read_document_bounds(const fs::path& path, std::int64_t tokens) {
  std::vector<DocumentBounds> documents;
  std::int64_t covered = 0;
  io::for_each_line(path, [&](std::string_view line, std::int64_t number) {
    std::string_view rest = without_return(line);
    if (rest.empty()) return true;
    const auto where = fmt::format("{}: line {}", path.string(), number);
    const std::int64_t begin = take_number(rest, "start", where), end = take_number(rest, "end", where);
    require(begin <= end, "{}: the document ends at {}, before it starts at {}", where, end, begin);
    require(begin >= covered, "{}: the document starts at {}, inside the one before it, which ends at {}",
            where, begin, covered);
    require(end <= tokens, "{}: the document ends at {}, but the token file holds {} tokens", where, end,
            tokens);
    if (begin < end) documents.push_back({begin, end});
    covered = end;
    return true;
  });
  return documents;
}

void write_document_bounds(const fs::path& path, std::span<const DocumentBounds> documents) {
  std::string text;
  for (const DocumentBounds& d : documents) text += fmt::format("{},{}\n", d.begin, d.end);
  io::write_file(path, io::gzip(text));
}

std::vector<DocumentBounds> document_bounds(const TokenFile& file, TokenId end_of_text) {
  const fs::path list = bounds_path(file.path());
  std::error_code error;
  if (list != file.path() && fs::exists(list, error)) return read_document_bounds(list, file.size());
  require(end_of_text >= 0, "{}: its documents cannot be told apart: no list {} and no end-of-text id",
          file.path().string(), list.string());
  std::vector<DocumentBounds> documents;
  std::vector<TokenId> ids(static_cast<std::size_t>(std::min(file.size(), kScanTokens)));
  std::int64_t begin = 0;
  for (std::int64_t first = 0; first < file.size(); first += kScanTokens) {
    const auto count = std::min(file.size() - first, kScanTokens);
    const auto part = std::span(ids).first(static_cast<std::size_t>(count));
    file.read(first, part);
    for (auto at = std::ranges::find(part, end_of_text); at != part.end();
         at = std::find(at + 1, part.end(), end_of_text)) {
      const std::int64_t end = first + (at - part.begin()) + 1;
      documents.push_back({begin, end});
      begin = end;
    }
  }
  if (begin < file.size()) documents.push_back({begin, file.size()});
  return documents;
}

}  // namespace braid::data
