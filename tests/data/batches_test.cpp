#include "braid/data/batches.h"

#include "tests/data/fixture.h"

namespace braid::data {
namespace {

constexpr TokenId kEnd = 9;
using Ids = std::vector<std::int32_t>;

class BatchesTest : public FolderTest {
 protected:
  // A dataset of one token file per list.
  FixedLengthDataset dataset(const std::vector<std::vector<std::uint16_t>>& files,
                             std::int64_t length) const {
    std::vector<TokenFile> opened;
    for (std::size_t i = 0; i < files.size(); ++i) {
      opened.emplace_back(write_ids(fmt::format("{}.u16", i), files[i]),
                          TokenFileOptions{.vocabulary_size = 10});
    }
    return FixedLengthDataset(std::move(opened), length);
  }
};

TEST_F(BatchesTest, RemaindersAreDroppedPerFile) {
  const FixedLengthDataset data = dataset({{0, 1, 2, 3, 4}, {5, 6}, {7}, {0, 1, 2}}, 2);
  EXPECT_EQ(data.size(), 4);
  EXPECT_EQ(data.dropped_tokens(), 3);
  const std::vector<Ids> want = {{0, 1}, {2, 3}, {5, 6}, {0, 1}};
  for (std::int64_t i = 0; i < data.size(); ++i) {
    Instance instance;
    data.read(i, instance);
    EXPECT_EQ(instance.ids, want[static_cast<std::size_t>(i)]) << i;
  }
}

TEST_F(BatchesTest, WithoutMaskingInstancesAreSegments) {
  const FixedLengthDataset data = dataset({{1, kEnd, 2, 3, 4, kEnd, 5, 6}}, 4);
  const Batch batch = assemble_sequential(data, 0, 2, {.end_of_text = kEnd});
  EXPECT_EQ(batch.ids, (Ids{1, kEnd, 2, 3, 4, kEnd, 5, 6}));
  EXPECT_EQ(batch.targets, (Ids{kEnd, 2, 3, -1, kEnd, 5, 6, -1}));
  EXPECT_EQ(batch.positions, (Ids{0, 1, 2, 3, 0, 1, 2, 3}));
  EXPECT_EQ(batch.segment_offsets, (Ids{0, 4, 8}));
  EXPECT_EQ(batch.predicted, 6);
}

TEST_F(BatchesTest, WithMaskingDocumentsAreSegments) {
  const FixedLengthDataset data = dataset({{1, kEnd, 2, 3,        // two documents, the second goes on
                                            4, 5, 6, kEnd,        // end of text at the end: no empty segment
                                            kEnd, kEnd, 7, kEnd,  // documents of one token
                                            1, 2, 3, kEnd + 0}},
                                          4);
  const Batch batch =
      assemble_sequential(data, 0, 4, {.end_of_text = kEnd, .document_masking = DocumentMasking::yes});
  EXPECT_EQ(batch.positions, (Ids{0, 1, 0, 1, 0, 1, 2, 3, 0, 0, 0, 1, 0, 1, 2, 3}));
  EXPECT_EQ(batch.segment_offsets, (Ids{0, 2, 4, 8, 9, 10, 12, 16}));
  // The same targets as without masking, as in OLMo-core.
  EXPECT_EQ(batch.targets, (Ids{kEnd, 2, 3, -1, 5, 6, kEnd, -1, kEnd, 7, kEnd, -1, 2, 3, kEnd, -1}));
}

TEST_F(BatchesTest, DoesNotDependOnTheSplitIntoBatches) {
  std::vector<std::uint16_t> ids(7 * 3);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::uint16_t>(i * 5 % 10);
  const FixedLengthDataset data = dataset({ids}, 3);
  const Order order(11, data.size());
  const BatchOptions options{.end_of_text = kEnd, .document_masking = DocumentMasking::yes};
  const Batch whole = assemble(data, order, 4, 12, options);  // across the end of the first epoch
  Ids pieces;
  for (std::int64_t first = 4; first < 16; first += 4) {
    const Batch part = assemble(data, order, first, 4, options);
    pieces.insert(pieces.end(), part.ids.begin(), part.ids.end());
  }
  EXPECT_EQ(whole.ids, pieces);
  EXPECT_EQ(whole.segment_offsets.back(), 36);
}

TEST_F(BatchesTest, SequentialStopsAtTheEnd) {
  const FixedLengthDataset data = dataset({{0, 1, 2, 3, 4, 5}}, 2);
  EXPECT_EQ(assemble_sequential(data, 2, 8, {}).ids, (Ids{4, 5}));
  EXPECT_EQ(assemble_sequential(data, 0, 2, {}).instances, 2);
}

TEST_F(BatchesTest, ErrorsSayWhatIsWrong) {
  expect_error([&] { dataset({{1, 2}, {3}}, 3); }, {"0.u16", "2 tokens", "sequence length 3"});
  expect_error([&] { dataset({{1, 2}}, 1); }, {"sequence length 1"});
  expect_error([&] { FixedLengthDataset({}, 4); }, {"at least one token file"});
  const FixedLengthDataset data = dataset({{0, 1, 2, 3, 10, 5}}, 2);
  Instance out;
  expect_error([&] { data.read(3, out); }, {"instance 3", "of 3"});
  expect_error([&] { data.read(-1, out); }, {"instance -1"});
  expect_error([&] { data.read(2, out); }, {"0.u16", "token 4 is 10"});
  expect_error([&] { assemble_sequential(data, 3, 1, {}); }, {"instance 3"});
  expect_error([&] { assemble_sequential(data, 0, 0, {}); }, {"at least one instance"});
  expect_error([&] { assemble(data, Order(0, 4), 0, 1, {}); }, {"4 instances", "3"});
  expect_error([&] { assemble_sequential(data, 0, 1, {.document_masking = DocumentMasking::yes}); },
               {"end-of-text"});
}

}  // namespace
}  // namespace braid::data
