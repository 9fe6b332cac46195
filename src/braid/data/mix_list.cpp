#include "braid/data/mix_list.h"

#include <algorithm>

#include "braid/io/files.h"
#include "braid/io/quote.h"

namespace braid::data {
namespace {

constexpr std::string_view kPlaceholder = "{TOKENIZER}";

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const auto first = text.find_first_not_of(kBlank);
  return first == text.npos ? std::string_view()
                            : text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::string with_tokenizer(std::string path, const std::string& where, const std::string& tokenizer) {
  for (auto at = path.find(kPlaceholder); at != path.npos; at = path.find(kPlaceholder, at)) {
    require(!tokenizer.empty(), "{}: the path holds {}: say which tokenizer is meant", where, kPlaceholder);
    path.replace(at, kPlaceholder.size(), tokenizer);
    at += tokenizer.size();
  }
  return path;
}

MixEntry parse_entry(std::string_view line, const std::string& where, const MixOptions& options) {
  const auto comma = line.find(',');
  MixEntry entry;
  if (comma != line.npos) entry.label = trimmed(line.substr(0, comma));
  const std::string_view path = trimmed(comma == line.npos ? line : line.substr(comma + 1));
  require(!path.empty(), "{}: no path; lines are 'label,path' or 'path'", where);
  require(path.find(',') == path.npos, "{}: {} has more than one comma; lines are 'label,path' or 'path'",
          where, io::in_quotes(line));
  require(path.find("://") == path.npos,
          "{}: {} is not a local file; fetch it, and name the folder as the base", where,
          io::in_quotes(path));
  require(path.find('\0') == path.npos, "{}: the path holds a zero byte", where);
  const std::string whole = with_tokenizer(std::string(path), where, options.tokenizer);
  entry.path = options.base.empty() ? fs::path(whole) : fs::path(options.base.string() + "/" + whole);
  return entry;
}

}  // namespace

std::vector<MixEntry> parse_mix_list(std::string_view text, const std::string& source,
                                     const MixOptions& options) {
  std::vector<MixEntry> entries;
  for (std::int64_t number = 1; !text.empty(); ++number) {
    const auto end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.starts_with('#')) continue;
    entries.push_back(parse_entry(line, fmt::format("{}: line {}", source, number), options));
  }
  require(!entries.empty(), "{}: the mix names no token file", source);
  return entries;
}

std::vector<MixEntry> read_mix_list(const fs::path& list, const MixOptions& options) {
  return parse_mix_list(io::read_file(list), list.string(), options);
}

}  // namespace braid::data
