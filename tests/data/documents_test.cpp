#include "braid/data/documents.h"

#include <zlib.h>
#include <zstd.h>

#include "tests/data/fixture.h"

namespace braid::data {
namespace {

class DocumentsTest : public FolderTest {
 protected:
  fs::path write_gzip(const std::string& name, std::string_view text) const {
    const fs::path path = folder_ / name;
    const gzFile file = ::gzopen(path.c_str(), "wb");
    EXPECT_EQ(::gzwrite(file, text.data(), static_cast<unsigned>(text.size())),
              static_cast<int>(text.size()));
    ::gzclose(file);
    return path;
  }
  fs::path write_zstd(const std::string& name, std::string_view text) const {
    std::string out(::ZSTD_compressBound(text.size()), '\0');
    out.resize(::ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
    return write(name, out);
  }
  static std::vector<Document> read(const fs::path& path) {
    std::vector<Document> documents;
    for_each_document(path, [&](Document&& document) {
      documents.push_back(std::move(document));
      return true;
    });
    return documents;
  }
};

constexpr std::string_view kLines =
    "{\"id\": \"a\", \"source\": \"s\", \"text\": \"caf\\u00e9\"}\n"
    "  \r\n"
    "{\"text\": \"\", \"id\": 7, \"more\": [1]}\r\n"
    "{\"text\": \"no newline \xe2\x82\xac\"}";

TEST_F(DocumentsTest, JsonLinesPlainAndCompressed) {
  for (const fs::path& path :
       {write("x.jsonl", kLines), write_gzip("x.jsonl.gz", kLines), write_zstd("x.jsonl.zst", kLines)}) {
    const std::vector<Document> documents = read(path);
    ASSERT_EQ(documents.size(), 3u) << path;
    EXPECT_EQ(documents[0].id, "a");
    EXPECT_EQ(documents[0].source, "s");
    EXPECT_EQ(documents[0].text, "caf\xc3\xa9");
    EXPECT_EQ(documents[1].id, "7");
    EXPECT_EQ(documents[1].text, "");
    EXPECT_EQ(documents[2].id, path.filename().string() + ":4");
    EXPECT_EQ(documents[2].source, "");
    EXPECT_EQ(documents[2].text, "no newline \xe2\x82\xac");
  }
}

TEST_F(DocumentsTest, TextFilesPassBytesThrough) {
  const std::string bytes("line\r\n\n\xff\x00\xfe", 9);
  for (const fs::path& path :
       {write("b.txt", bytes), write_gzip("b.txt.gz", bytes), write_zstd("b.txt.zst", bytes)}) {
    const std::vector<Document> documents = read(path);
    ASSERT_EQ(documents.size(), 1u);
    EXPECT_EQ(documents[0].text, bytes);
    EXPECT_EQ(documents[0].id, path.filename().string());
  }
}

TEST_F(DocumentsTest, FoldersAreReadInOrder) {
  write("b.txt", "2"), write("a/z.txt", "1"), write("c.jsonl", "{\"text\": \"3\"}\n{\"text\": \"4\"}\n");
  write(".hidden", "x"), write("d/.cache/x.bin", "x");
  std::string all;
  for (const Document& document : read(folder_)) all += document.text;
  EXPECT_EQ(all, "1234");
}

TEST_F(DocumentsTest, StopsWhenTold) {
  write("a.jsonl", "{\"text\": \"1\"}\n{\"text\": \"2\"}\nnot json\n"), write("b.txt", "3");
  int seen = 0;
  for_each_document(folder_, [&](Document&&) { return ++seen < 2; });
  EXPECT_EQ(seen, 2);
}

TEST_F(DocumentsTest, ErrorsNameFileLineAndField) {
  const auto bad_line = [&](std::string_view line, const std::vector<std::string>& parts) {
    const fs::path path = write("bad.jsonl", "{\"text\": \"good\"}\n" + std::string(line) + "\n");
    std::vector<std::string> all = {path.string(), "line 2"};
    all.insert(all.end(), parts.begin(), parts.end());
    expect_error([&] { read(path); }, all);
  };
  bad_line("{\"id\": \"x\"}", {"'text'", "missing"});
  bad_line("{\"text\": null}", {"'text'", "null"});
  bad_line("{\"text\": 3}", {"'text'", "number 3", "string"});
  bad_line("{\"text\": \"a\", \"source\": []}", {"'source'", "string"});
  bad_line("{\"text\": \"a\", \"id\": 1.5}", {"'id'", "string"});
  bad_line("{\"text\": \"a\"", {"invalid JSON"});
  bad_line("{\"text\": \"a\"} {}", {"invalid JSON"});
  bad_line("[]", {"object", "array"});
  bad_line("{\"text\": \"\xff\"}", {"invalid JSON"});
  bad_line("{\"text\": \"\\ud800\"}", {"invalid JSON"});
}

TEST_F(DocumentsTest, UnknownFilesAreNamedBeforeAnyIsRead) {
  write("a.jsonl", "not json"), write("notes.md", "x");
  expect_error([&] { read(folder_); }, {"notes.md", ".jsonl.zst", ".txt.gz"});
  expect_error([&] { read(write("x.json", "{}")); }, {"x.json", ".jsonl"});
  expect_error([&] { read(folder_ / "absent.txt"); }, {"absent.txt", "no such file"});
  fs::create_directory(folder_ / "empty");
  expect_error([&] { read(folder_ / "empty"); }, {"empty", "no documents"});
}

TEST_F(DocumentsTest, TruncatedStreamsAreNamed) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += fmt::format("{{\"text\": \"{}\"}}\n", i * 7919);
  for (const fs::path& path : {write_gzip("t.jsonl.gz", text), write_zstd("t.jsonl.zst", text)}) {
    fs::resize_file(path, fs::file_size(path) / 2);
    expect_error([&] { read(path); }, {path.string()});
  }
}

}  // namespace
}  // namespace braid::data
