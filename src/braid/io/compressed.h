// Plain, gzip (.gz) and zstd (.zst) files, read as a stream of lines or whole; gzip also written.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "braid/io/files.h"

namespace braid::io {

inline constexpr std::size_t kMaxLineBytes = std::size_t{256} << 20;

// Calls fn(line, number) for each line, without its '\n', numbered from 1; fn returns false to stop early.
// The last line needs no '\n'. The file name's ending chooses the format. Memory is bounded by the longest
// line. Truncated or corrupt streams and lines over max_line_bytes are errors that name the file and the byte
// or line.
using LineFunction = std::function<bool(std::string_view line, std::int64_t number)>;
void for_each_line(const fs::path& path, const LineFunction& fn, std::size_t max_line_bytes = kMaxLineBytes);

// The same; also told is how many bytes of the file itself, compressed as it is, have been read.
struct Line {
  std::string_view text;
  std::int64_t number = 0;
  std::uint64_t file_bytes = 0;
};
void for_each_line_of(const fs::path& path, const std::function<bool(const Line& line)>& fn,
                      std::size_t max_line_bytes = kMaxLineBytes);

// The whole decompressed file; an error when it exceeds max_bytes.
std::string read_compressed(const fs::path& path, std::size_t max_bytes = std::size_t{1} << 30);

// The gzip file of these bytes, the same every time: it names no file and no date.
std::string gzip(std::string_view text);

}  // namespace braid::io
