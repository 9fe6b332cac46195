#include "braid/data/inspect_token_file.h"

#include "tests/data/fixture.h"

namespace braid::data {
namespace {

class InspectTest : public FolderTest {};

TEST_F(InspectTest, CountsWhatIsThere) {
  TokenFileWriter writer(folder_ / "a.u16", {.size = 10, .end_of_text = 9});
  for (int length = 0; length < 100; ++length)
    writer.append_document(std::vector<TokenId>(static_cast<std::size_t>(length), 3), 0);
  writer.append(std::vector<TokenId>{1, 2}, 2);
  writer.commit();
  const TokenFileReport report = inspect_token_file(folder_ / "a.u16", {});
  EXPECT_EQ(report.tokens, 5052);
  EXPECT_EQ(report.documents, 101);
  EXPECT_EQ(report.open_tokens, 2);
  EXPECT_EQ(report.largest, 9);
  EXPECT_EQ(report.unknown, 0);
  EXPECT_DOUBLE_EQ(report.mean_length, 5052 / 101.0);
  // Lengths 1, 2, 2, 3, 4, … 100: of 101, percentile p is at rank ceil(1.01 p).
  EXPECT_EQ(report.lengths, (std::array<std::int64_t, 8>{1, 5, 25, 50, 75, 95, 99, 100}));
  EXPECT_FALSE(report.labels);
}

TEST_F(InspectTest, UnknownIdsAndLabels) {
  const auto path = write_ids<std::uint16_t>("a.u16", {65, 256, 300, 66, 256, 9999});
  write("some.mask", std::string("\0\0\1\1\0\1", 6));
  const auto bytes = text::byte_tokenizer();
  const TokenFileReport report =
      inspect_token_file(path, {.file = {.label_mask = folder_ / "some.mask"}, .tokenizer = bytes.get()});
  EXPECT_EQ(report.documents, 3);
  EXPECT_EQ(report.unknown, 2);
  EXPECT_EQ(report.first_unknown, 2);
  EXPECT_EQ(report.largest, 9999);
  EXPECT_EQ(report.labels, 3);
  EXPECT_EQ(report.documents_without_labels, 1);
  expect_error([&] { inspect_token_file(path, {}); }, {"a.u16", "without a tokenizer or a sidecar"});
}

}  // namespace
}  // namespace braid::data
