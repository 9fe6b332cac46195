#include "braid/io/compressed.h"

#include <zlib.h>
#include <zstd.h>

#include "tests/support/files.h"

namespace {

using namespace braid::io;
using braid::test::message_of, braid::test::put, braid::test::TemporaryFolder;

std::string gzip(const std::string& text) {
  z_stream stream{};
  if (::deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) return "";
  std::string out(::deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(::deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(::ZSTD_compressBound(text.size()), '\0');
  out.resize(::ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::vector<std::string> lines_of(const fs::path& path) {
  std::vector<std::string> lines;
  for_each_line(path, [&](std::string_view line, std::int64_t number) {
    lines.emplace_back(line);
    EXPECT_EQ(number, static_cast<std::int64_t>(lines.size()));
    return true;
  });
  return lines;
}

// Lines of all sizes around the size of a read, some empty; hard to compress, so that streams span many
// reads.
std::vector<std::string> long_lines() {
  std::vector<std::string> lines;
  std::uint32_t x = 12345;
  for (const std::size_t size : {0u, 1u, 1000u, (1u << 18) - 1, 1u << 18, (1u << 18) + 1, 0u, 3u << 18, 5u}) {
    std::string line;
    for (std::size_t i = 0; i < size; ++i)
      line += static_cast<char>('!' + ((x = x * 1664525u + 1013904223u) >> 24) % 90);
    lines.push_back(std::move(line));
  }
  return lines;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

TEST(ForEachLine, ReadsPlainGzipAndZstd) {
  const TemporaryFolder folder;
  const std::vector<std::string> lines = long_lines();
  const std::string text = joined(lines);
  for (const auto& path :
       {put(folder / "a.txt", text), put(folder / "a.gz", gzip(text)), put(folder / "a.zst", zstd(text))}) {
    EXPECT_EQ(lines_of(path), lines) << path;
    EXPECT_EQ(read_compressed(path), text) << path;
  }
}

TEST(ForEachLine, ReadsConcatenatedStreams) {
  const TemporaryFolder folder;
  const std::vector<std::string> want{"one", "two and more", "three"};
  EXPECT_EQ(lines_of(put(folder / "a.gz", gzip("one\ntwo ") + gzip("") + gzip("and more\nthree"))), want);
  EXPECT_EQ(lines_of(put(folder / "a.zst", zstd("one\ntwo ") + zstd("") + zstd("and more\nthree"))), want);
}

TEST(ForEachLine, TheLastLineNeedsNoNewline) {
  const TemporaryFolder folder;
  EXPECT_EQ(lines_of(put(folder / "a", "x\n\ny")), (std::vector<std::string>{"x", "", "y"}));
  EXPECT_EQ(lines_of(put(folder / "b", "x\n\n")), (std::vector<std::string>{"x", ""}));
  EXPECT_EQ(lines_of(put(folder / "c", "")), std::vector<std::string>{});
  EXPECT_EQ(lines_of(put(folder / "d", "\r\n")), std::vector<std::string>{"\r"});
}

TEST(ForEachLine, StopsWhenToldTo) {
  const TemporaryFolder folder;
  int seen = 0;
  for_each_line(put(folder / "a", "x\ny\nz\n"),
                [&](std::string_view, std::int64_t n) { return ++seen, n < 2; });
  EXPECT_EQ(seen, 2);
}

TEST(ForEachLine, TruncatedStreamsNameFileByteAndLine) {
  const TemporaryFolder folder;
  const std::string text = joined(long_lines());
  for (const auto& [name, whole] : {std::pair{"a.gz", gzip(text)}, std::pair{"a.zst", zstd(text)}}) {
    for (const std::size_t size : {std::size_t{0}, std::size_t{5}, whole.size() / 2, whole.size() - 1}) {
      const auto path = put(folder / name, whole.substr(0, size));
      const std::string error = message_of([&] { lines_of(path); });
      EXPECT_HOLDS(error, path.string());
      EXPECT_HOLDS(error, "is truncated at byte " + std::to_string(size));
      EXPECT_HOLDS(error, "(in line ");
    }
  }
}

TEST(ForEachLine, CorruptStreamsNameFileByteAndLine) {
  const TemporaryFolder folder;
  const std::string text = joined(long_lines());
  for (const auto& [name, whole] : {std::pair{"a.gz", gzip(text)}, std::pair{"a.zst", zstd(text)}}) {
    std::string bad = whole;
    bad[0] = 'x';
    EXPECT_HOLDS(message_of([&] { lines_of(put(folder / name, bad)); }), "corrupt") << name;
    EXPECT_HOLDS(message_of([&] { lines_of(put(folder / name, whole + "trailing")); }), "corrupt") << name;
  }
  std::string bad = gzip(text);
  bad[bad.size() - 6] ^= 1;  // the checksum
  EXPECT_HOLDS(message_of([&] { lines_of(put(folder / "a.gz", bad)); }), "incorrect data check");
}

TEST(ForEachLine, LongLinesAreErrors) {
  const TemporaryFolder folder;
  const auto path = put(folder / "a.zst", zstd("x\n" + std::string(1'000'000, 'y') + "\n"));
  const auto read = [&](std::size_t limit) {
    for_each_line(
        path, [](auto, auto) { return true; }, limit);
  };
  EXPECT_NO_THROW(read(1'000'000));
  EXPECT_EQ(message_of([&] { read(999'999); }), path.string() + ": line 2 is longer than 999999 bytes");
}

TEST(ReadCompressed, BoundsTheSizeAndNamesMissingFiles) {
  const TemporaryFolder folder;
  const auto path = put(folder / "a.gz", gzip(std::string(1'000'000, 'y')));  // a small file that grows
  EXPECT_HOLDS(message_of([&] { read_compressed(path, 999'999); }),
               path.string() + ": more than 999999 bytes");
  EXPECT_HOLDS(message_of([&] { read_compressed(folder / "none.gz"); }), (folder / "none.gz").string());
  EXPECT_HOLDS(message_of([&] { read_compressed(folder.path()); }), folder.path().string());
}

}  // namespace
