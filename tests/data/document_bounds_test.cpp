#include "braid/data/document_bounds.h"

#include "braid/io/compressed.h"
#include "tests/data/fixture.h"

namespace braid::data {
namespace {

using Bounds = std::vector<DocumentBounds>;

class DocumentBoundsTest : public FolderTest {
 protected:
  Bounds read(std::string_view text, std::int64_t tokens = 100) const {
    return read_document_bounds(write("a.csv.gz", io::gzip(text)), tokens);
  }
};

TEST_F(DocumentBoundsTest, WrittenAndReadAgain) {
  const Bounds documents = {{0, 3}, {3, 4}, {10, 100}};
  write_document_bounds(folder_ / "a.csv.gz", documents);
  EXPECT_EQ(read_document_bounds(folder_ / "a.csv.gz", 100), documents);
  EXPECT_EQ(io::read_compressed(folder_ / "a.csv.gz"), "0,3\n3,4\n10,100\n");
  const auto first = io::read_file(folder_ / "a.csv.gz");
  write_document_bounds(folder_ / "a.csv.gz", documents);
  EXPECT_EQ(io::read_file(folder_ / "a.csv.gz"), first);
}

TEST_F(DocumentBoundsTest, OtherColumnsAndEmptyDocuments) {
  EXPECT_EQ(read("0,3,id-1,\"a,b\",7\r\n3,3\n\n3,5"), (Bounds{{0, 3}, {3, 5}}));
  EXPECT_EQ(read(""), Bounds{});
}

TEST_F(DocumentBoundsTest, FoundByEndsOfText) {
  const auto path = write_ids<std::uint16_t>("b.u16", {9, 1, 2, 9, 9, 3});
  const TokenFile file(path, {.vocabulary_size = 10});
  EXPECT_EQ(document_bounds(file, 9), (Bounds{{0, 1}, {1, 4}, {4, 5}, {5, 6}}));
  write_document_bounds(folder_ / "b.csv.gz", Bounds{{1, 3}});
  EXPECT_EQ(document_bounds(file, 9), (Bounds{{1, 3}}));
}

TEST_F(DocumentBoundsTest, ErrorsNameFileAndLine) {
  expect_error([&] { read("0,3\nx,4\n"); }, {"a.csv.gz: line 2", "start is 'x'"});
  expect_error([&] { read("0,\n"); }, {"line 1", "end is ''"});
  expect_error([&] { read("0\n"); }, {"line 1", "end is ''"});
  expect_error([&] { read("-1,2\n"); }, {"line 1", "start is '-1'"});
  expect_error([&] { read("0,99999999999999999999\n"); }, {"line 1", "end is"});
  expect_error([&] { read("5,2\n"); }, {"line 1", "ends at 2", "starts at 5"});
  expect_error([&] { read("0,5\n4,6\n"); }, {"line 2", "starts at 4", "ends at 5"});
  expect_error([&] { read("0,101\n"); }, {"line 1", "ends at 101", "100 tokens"});
  const auto path = write("cut.csv.gz", std::string_view(io::gzip("0,1\n")).substr(0, 12));
  expect_error([&] { read_document_bounds(path, 1); }, {"cut.csv.gz", "truncated"});
}

}  // namespace
}  // namespace braid::data
