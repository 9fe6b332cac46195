#include "braid/data/label_mask.h"

#include "braid/data/batches.h"
#include "tests/data/fixture.h"

namespace braid::data {
namespace {

using Ids = std::vector<TokenId>;
using Labels = std::vector<std::uint8_t>;

class LabelMaskTest : public FolderTest {
 protected:
  static constexpr TokenId kEnd = 9;
  Vocabulary vocabulary() const { return {.size = 10, .end_of_text = kEnd}; }
};

TEST_F(LabelMaskTest, WrittenWithItsTokens) {
  TokenFileWriter writer(folder_ / "a.u16", vocabulary());
  writer.append_labelled(Ids{1, 2, 3}, Labels{0, 1, 1}, 3);
  writer.append_labelled(Ids{kEnd}, Labels{1}, 0);
  const TokenFileInfo info = writer.commit();
  EXPECT_EQ(info.label_mask, "a.mask");
  EXPECT_EQ(io::read_file(folder_ / "a.mask"), std::string("\0\1\1\1", 4));
  const TokenFile file(folder_ / "a.u16");
  EXPECT_EQ(format_token_file_info(*file.info()), format_token_file_info(info));
  ASSERT_NE(file.label_mask(), nullptr);
  Labels labels(2);
  file.label_mask()->read(1, labels);
  EXPECT_EQ(labels, (Labels{1, 1}));
  std::vector<TokenFile> files;
  files.emplace_back(folder_ / "a.u16");
  const Batch batch =
      assemble_sequential(FixedLengthDataset(std::move(files), 4), 0, 1, {.end_of_text = kEnd});
  EXPECT_EQ(batch.targets, (Ids{2, 3, kEnd, -1}));  // byte t is about token t as a target
  EXPECT_EQ(batch.predicted, 3);
}

TEST_F(LabelMaskTest, ByteTIsTokenTAsATarget) {
  const auto path = write_ids<std::uint16_t>("a.u16", {1, 2, 3, 4, 5, 6});
  write("some.mask", std::string("\1\0\1\0\1\1", 6));
  std::vector<TokenFile> files;
  files.emplace_back(path, TokenFileOptions{.vocabulary_size = 10, .label_mask = folder_ / "some.mask"});
  const Batch batch = assemble_sequential(FixedLengthDataset(std::move(files), 3), 0, 2, {});
  EXPECT_EQ(batch.targets, (Ids{-1, 3, -1, 5, 6, -1}));
  EXPECT_EQ(batch.predicted, 3);
}

// The first instance is masked by the filter and counts its targets, not those that its labels forbid.
TEST_F(LabelMaskTest, FilteredInstancesCountInTheDivisor) {
  const auto path = write_ids<std::uint16_t>("a.u16", {1, 1, 1, 1, 1, 2, 3, 4});
  write("a.mask", std::string("\1\1\1\0\1\1\1\1", 8));
  const auto batch_of = [&](const BatchOptions& options) {
    std::vector<TokenFile> files;
    files.emplace_back(path, TokenFileOptions{.vocabulary_size = 10, .label_mask = folder_ / "a.mask"});
    return assemble_sequential(FixedLengthDataset(std::move(files), 4), 0, 2, options);
  };
  const Batch filtered = batch_of({.instance_filter = RepetitionFilter{.max_repetitions = 4}});
  EXPECT_EQ(filtered.targets, (Ids{-1, -1, -1, -1, 2, 3, 4, -1}));
  EXPECT_EQ(filtered.predicted, 5);
  EXPECT_EQ(filtered.filtered, 1);
  const Batch kept = batch_of({.instance_filter = RepetitionFilter{.max_repetitions = 5}});
  EXPECT_EQ(kept.targets, (Ids{1, 1, -1, -1, 2, 3, 4, -1}));
  EXPECT_EQ(kept.predicted, 5);
  EXPECT_EQ(kept.filtered, 0);
}

TEST_F(LabelMaskTest, ErrorsSayWhatIsWrong) {
  write("a.mask", std::string("\0\1\2", 3));
  expect_error([&] { LabelMask(folder_ / "a.mask", 4); }, {"a.mask", "3 bytes for 4 tokens"});
  const LabelMask mask(folder_ / "a.mask", 3);
  Labels labels(3);
  expect_error([&] { mask.read(0, labels); }, {"a.mask", "byte 2 is 2"});
  expect_error([&] { mask.read(1, labels); }, {"a.mask", "labels 1 to 4"});
  TokenFileWriter writer(folder_ / "a.u16", vocabulary());
  expect_error([&] { writer.append_labelled(Ids{1}, Labels{}, 0); }, {"a.u16", "0 labels for 1"});
  expect_error([&] { writer.append_labelled(Ids{1}, Labels{2}, 0); }, {"a.u16", "label 2"});
  writer.append(Ids{1}, 1);
  expect_error([&] { writer.append_labelled(Ids{1}, Labels{1}, 0); }, {"a.u16", "after tokens without"});
  TokenFileWriter other(folder_ / "b.u16", vocabulary());
  other.append_labelled(Ids{1}, Labels{1}, 1);
  expect_error([&] { other.append(Ids{1}, 1); }, {"b.u16", "after tokens with"});
  TokenFileInfo info{
      .vocabulary = vocabulary(), .tokens = 1, .content_hash = "0123456789abcdef", .label_mask = "../a.mask"};
  expect_error([&] { parse_token_file_info(format_token_file_info(info), "a.json"); },
               {"a.json", "label_mask"});
}

}  // namespace
}  // namespace braid::data
