#include "braid/data/token_file.h"

#include "tests/data/fixture.h"
#include "tests/support/files.h"

namespace braid::data {
namespace {

using TokenFileTest = FolderTest;

std::vector<TokenId> read_all(const TokenFile& file) {
  std::vector<TokenId> ids(static_cast<std::size_t>(file.size()));
  file.read(0, ids);
  return ids;
}

TEST(Hash64, NeverChanges) {  // values from an independent program
  EXPECT_EQ(Hash64().hex(), "f52a15e9a9b5e89b");
  EXPECT_EQ(Hash64().update("braid").hex(), "4adfcc77d56927a8");
  EXPECT_EQ(Hash64(1).update("br").update("aid").hex(), "c6ed65fa29309daf");
}

TEST(TokenWidth, FollowsVocabularyAndName) {
  EXPECT_EQ(width_for(1), TokenWidth::u16);
  EXPECT_EQ(width_for(65536), TokenWidth::u16);
  EXPECT_EQ(width_for(65537), TokenWidth::u32);
  expect_error([] { width_for(0); }, {"vocabulary of 0"});
  expect_error([] { width_for(std::int64_t{1} << 31); }, {"vocabulary of 2147483648"});
  EXPECT_EQ(token_file_name("train", 257), "train.u16");
  EXPECT_EQ(token_file_name("train", 100278), "train.u32");
  EXPECT_FALSE(width_of_name("x.npy").has_value());
}

TEST_F(TokenFileTest, RoundTripInBothWidths) {
  const std::vector<TokenId> first = {0, 1, 65534}, second = {7};
  for (const char* name : {"a.u16", "a.u32"}) {
    const fs::path path = folder_ / name;
    TokenFileWriter writer(path, {65536, 65535, ""});
    writer.append_document(first, 10);
    writer.append(second, 2);
    writer.append_document({}, 1);
    EXPECT_FALSE(fs::exists(path));
    const TokenFileInfo info = writer.commit({{"by", "test"}});
    EXPECT_EQ(info.documents, 2);
    EXPECT_EQ(info.tokens, 6);
    EXPECT_EQ(info.text_bytes, 13);
    const TokenFile file(path);
    EXPECT_EQ(fs::file_size(path), 6 * static_cast<std::uint64_t>(file.width()));
    EXPECT_EQ(read_all(file), (std::vector<TokenId>{0, 1, 65534, 65535, 7, 65535}));
    file.verify();
    EXPECT_EQ(file.scan(65535).documents, 2);
    EXPECT_EQ(file.scan(7).largest, 65535);
    EXPECT_EQ(file.vocabulary_size(), 65536);
    EXPECT_EQ(file.info()->made["by"], "test");
    EXPECT_EQ(format_token_file_info(*file.info()), format_token_file_info(info));
  }
}

TEST_F(TokenFileTest, BytesAreLittleEndian) {
  TokenFileWriter narrow(folder_ / "n.u16", {300, 258, ""}), wide(folder_ / "w.u32", {70000, 65538, ""});
  narrow.append_document({}, 0), wide.append_document({}, 0);
  narrow.commit(), wide.commit();
  EXPECT_EQ(io::read_file(folder_ / "n.u16"), std::string("\x02\x01", 2));
  EXPECT_EQ(io::read_file(folder_ / "w.u32"), std::string("\x02\x00\x01\x00", 4));
}

TEST_F(TokenFileTest, ManyTokensCrossTheBuffers) {
  TokenFileWriter writer(folder_ / "m.u16", {1000, 999, ""});
  std::vector<TokenId> ids(1'300'000);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(i % 999);
  writer.append_document(ids, 5);
  writer.commit();
  const TokenFile file(folder_ / "m.u16");
  file.verify();
  ids.push_back(999);
  EXPECT_EQ(read_all(file), ids);
}

TEST_F(TokenFileTest, WriterRefuses) {
  expect_error([&] { TokenFileWriter(folder_ / "x.bin", {257, 256, ""}); }, {"x.bin", ".u16"});
  expect_error([&] { TokenFileWriter(folder_ / "x.u16", {65537, 256, ""}); }, {"x.u16", "65537", ".u32"});
  expect_error([&] { TokenFileWriter(folder_ / "x.u16", {257, 257, ""}); }, {"x.u16", "end of text 257"});
  {
    TokenFileWriter writer(folder_ / "x.u16", {257, 256, ""});
    const std::vector<TokenId> large = {3, 257}, negative = {-1};
    expect_error([&] { writer.append(large, 0); }, {"x.u16", "token 257", "vocabulary of 257"});
    expect_error([&] { writer.append(negative, 0); }, {"x.u16", "token -1"});
  }
  TokenFileWriter empty(folder_ / "y.u16", {257, 256, ""});
  expect_error([&] { empty.commit(); }, {"y.u16", "nothing to write"});
  EXPECT_FALSE(fs::exists(folder_ / "x.u16") || fs::exists(folder_ / "y.u16"));
}

TEST_F(TokenFileTest, ForeignFilesNeedWidthAndVocabulary) {
  const fs::path path = write_ids<std::uint32_t>("part-0.npy", {5, 100257});
  expect_error([&] { TokenFile file(path, {.vocabulary_size = 100278}); }, {"part-0.npy", "width"});
  expect_error([&] { TokenFile file(path, {.width = TokenWidth::u32}); }, {"part-0.npy", "vocabulary size"});
  const TokenFile file(path, {.width = TokenWidth::u32, .vocabulary_size = 100278});
  EXPECT_EQ(read_all(file), (std::vector<TokenId>{5, 100257}));
  EXPECT_FALSE(file.info().has_value());
  EXPECT_EQ(file.scan(100257).documents, 1);
  expect_error([&] { file.verify(); }, {"part-0.npy", "sidecar"});
  const fs::path numpy = write("numpy.npy", std::string("\x93NUMPY\x01\x00", 8));
  expect_error([&] { TokenFile f(numpy, {.width = TokenWidth::u16, .vocabulary_size = 9}); },
               {"numpy.npy", "NumPy header"});
}

TEST_F(TokenFileTest, SampleHashSeesWhatItSays) {
  const auto hash = [&](const std::string& bytes) {
    return TokenFile(write("a.u16", bytes), {.vocabulary_size = 65536}).sample_hash();
  };
  std::string bytes(3 << 20, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(mix_bits(i));
  const auto changed = [&](std::string text, std::size_t at) {
    text[at] ^= 1;
    return hash(text);
  };
  // All of a file of a MiB, both ends of a larger one.
  const auto small = bytes.substr(0, 1 << 20);
  for (const std::size_t at : {std::size_t{0}, std::size_t{100'000}, small.size() - 1}) {
    EXPECT_NE(changed(small, at), hash(small)) << at;
  }
  for (const std::size_t at : {std::size_t{0}, bytes.size() - 1})
    EXPECT_NE(changed(bytes, at), hash(bytes)) << at;
  EXPECT_EQ(hash(bytes), hash(bytes));
  // Documents in another order, and a token that moves from one end to the other.
  EXPECT_NE(hash(bytes.substr(1 << 20) + small), hash(bytes));
  EXPECT_NE(hash(bytes.substr(2) + bytes.substr(0, 2)), hash(bytes));
}

TEST_F(TokenFileTest, MalformedFilesAreNamed) {
  const TokenFileOptions options{.vocabulary_size = 257};
  const auto open = [&](const fs::path& path) { TokenFile file(path, options); };
  expect_error([&] { open(write("empty.u16", "")); }, {"empty.u16", "empty"});
  expect_error([&] { open(write("odd.u16", "abc")); }, {"odd.u16", "3 bytes", "2-byte"});
  expect_error([&] { open(write("odd.u32", "abcdef")); }, {"odd.u32", "6 bytes", "4-byte"});
  expect_error([&] { open(folder_ / "absent.u16"); }, {"absent.u16"});
  expect_error([&] { TokenFile(write("w.u16", "ab"), {.width = TokenWidth::u32, .vocabulary_size = 9}); },
               {"w.u16", "4 bytes"});
  const TokenFile narrow(write_ids<std::uint16_t>("large.u16", {1, 256, 257, 3}), options);
  expect_error([&] { narrow.scan(256); }, {"large.u16", "token 2 is 257", "vocabulary of 257"});
  std::vector<TokenId> two(2);
  narrow.read(0, two);
  EXPECT_EQ(two, (std::vector<TokenId>{1, 256}));
  expect_error([&] { narrow.read(1, two); }, {"token 2 is 257"});
  expect_error([&] { narrow.read(3, two); }, {"tokens 3 to 5", "4"});
  expect_error([&] { narrow.read(-1, two); }, {"tokens -1"});
  const TokenFile wide(write_ids<std::uint32_t>("large.u32", {0xFFFFFFFFu}), options);
  expect_error([&] { wide.scan(256); }, {"large.u32", "token 0 is 4294967295"});
}

class SidecarTest : public FolderTest {
 protected:
  SidecarTest() {
    TokenFileWriter writer(path_, {257, 256, std::string(16, 'a')});
    const std::vector<TokenId> ids = {1, 2, 3};
    writer.append_document(ids, 3);
    info_ = writer.commit();
  }
  // Opens the file beside a sidecar in which `key` has another value.
  void expect_refused(const std::string& key, const nlohmann::json& value,
                      const std::vector<std::string>& parts) {
    nlohmann::json root = nlohmann::json::parse(format_token_file_info(info_));
    root[key] = value;
    write("t.json", root.dump());
    expect_error([&] { TokenFile(path_).verify(); }, parts);
  }

  fs::path path_ = folder_ / "t.u16";
  TokenFileInfo info_;
};

TEST_F(SidecarTest, IsValidated) {
  expect_refused("format", "other", {"t.json", "'format'"});
  expect_refused("version", 2, {"t.json", "'version'"});
  expect_refused("width", 3, {"t.json", "'width'"});
  expect_refused("width", 4, {"t.json", "4-byte", "t.u16"});
  expect_refused("vocabulary_size", 70000, {"t.json", "'vocabulary_size'"});
  expect_refused("end_of_text", 257, {"t.json", "'end_of_text'"});
  expect_refused("tokenizer", "xyz", {"t.json", "'tokenizer'"});
  expect_refused("tokens", 5, {"t.json", "5 tokens", "holds 4"});
  expect_refused("documents", 5, {"t.json", "'documents'"});
  expect_refused("documents", 2, {"t.u16", "1 documents", "2"});
  expect_refused("text_bytes", -1, {"t.json", "'text_bytes'"});
  expect_refused("content_hash", std::string(16, '0'), {"t.u16", "changed"});
  expect_refused("made", 3, {"t.json", "'made'"});
  expect_refused("documnets", 3, {"t.json", "documnets"});
  write("t.json", "{");
  expect_error([&] { TokenFile file(path_); }, {"t.json", "invalid JSON"});
}

TEST_F(SidecarTest, MustAgreeWithTheReader) {
  expect_error([&] { TokenFile(path_, {.tokenizer = std::string(16, 'b')}); }, {"t.json", "aaaa", "bbbb"});
  expect_error([&] { TokenFile(path_, {.vocabulary_size = 256}); }, {"t.json", "257", "256"});
  const TokenFile padded(path_, {.vocabulary_size = 512, .tokenizer = std::string(16, 'a')});
  EXPECT_EQ(padded.vocabulary_size(), 257);
}

TEST_F(SidecarTest, IsReplacedWithItsFile) {
  TokenFileWriter writer(path_, {10, 9, ""});
  writer.append_document({}, 0);
  TokenFile(path_).verify();  // the earlier file, until the commit
  writer.commit();
  const TokenFile file(path_);
  file.verify();
  EXPECT_EQ(file.vocabulary_size(), 10);
  EXPECT_EQ(file.info()->vocabulary.tokenizer, "");
}

TEST(TokenizerFingerprint, TellsTokenizersApart) {
  const auto tokenizer = text::byte_tokenizer();
  const Vocabulary vocabulary = vocabulary_of(*tokenizer);
  EXPECT_EQ(vocabulary.size, 259);
  EXPECT_EQ(vocabulary.end_of_text, 256);
  EXPECT_EQ(vocabulary.tokenizer, tokenizer_fingerprint(*text::byte_tokenizer()));
  const auto other = text::load_tokenizer(test::golden("tokenizer.json.gz"));
  EXPECT_NE(vocabulary.tokenizer, tokenizer_fingerprint(*other));
}

}  // namespace
}  // namespace braid::data
