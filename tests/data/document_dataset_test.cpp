#include "braid/data/document_dataset.h"

#include <set>

#include "braid/core/random.h"
#include "braid/data/batches.h"
#include "tests/data/fixture.h"

namespace braid::data {
namespace {

constexpr TokenId kEnd = 9, kPad = 8;
using Ids = std::vector<TokenId>;
using Labels = std::vector<std::uint8_t>;

class DocumentDatasetTest : public FolderTest {
 protected:
  std::vector<TokenFile> open(const std::vector<std::vector<std::uint16_t>>& files) const {
    std::vector<TokenFile> opened;
    for (std::size_t i = 0; i < files.size(); ++i) {
      opened.emplace_back(write_ids(fmt::format("{}.u16", i), files[i]),
                          TokenFileOptions{.vocabulary_size = 10});
    }
    return opened;
  }
  static Instance read(const Dataset& dataset, std::int64_t index) {
    Instance instance;
    instance.padding = 77, instance.labels = {5}, instance.documents = {3};  // of an earlier read
    dataset.read(index, instance);
    return instance;
  }
  static DocumentOptions options(std::int64_t length, LongDocuments rule = LongDocuments::truncate,
                                 std::int64_t group = 1) {
    return {.sequence_length = length,
            .end_of_text = kEnd,
            .pad = kPad,
            .long_documents = rule,
            .source_group_size = group};
  }
};

TEST_F(DocumentDatasetTest, PacksAndPads) {
  // Lengths 3, 5, 2, 4 into instances of 6: 5 alone, then 4 with 2, then 3.
  const PackedDataset data(open({{1, 1, 9, 2, 2, 2, 2, 9, 3, 9, 4, 4, 4, 9}}), options(6));
  ASSERT_EQ(data.size(), 3);
  EXPECT_EQ(data.documents(), 4);
  EXPECT_EQ(data.padding(), 4);
  EXPECT_EQ(data.dropped_tokens(), 0);
  const std::vector<Ids> want = {{2, 2, 2, 2, 9, 8}, {4, 4, 4, 9, 3, 9}, {1, 1, 9, 8, 8, 8}};
  const std::vector<std::vector<std::int64_t>> documents = {{0}, {0, 4}, {0}};
  const std::vector<std::int64_t> padding = {1, 0, 3};
  for (std::size_t i = 0; i < want.size(); ++i) {
    const Instance got = read(data, static_cast<std::int64_t>(i));
    EXPECT_EQ(got.ids, want[i]);
    EXPECT_EQ(got.documents, documents[i]);
    EXPECT_EQ(got.padding, padding[i]);
    EXPECT_TRUE(got.labels.empty());
  }
}

TEST_F(DocumentDatasetTest, BatchesOfPackedDocuments) {
  const PackedDataset data(open({{1, 1, 9, 2, 2, 2, 2, 9, 3, 9, 4, 4, 4, 9}}), options(6));
  const Batch masked =
      assemble_sequential(data, 0, 3, {.end_of_text = kEnd, .document_masking = DocumentMasking::yes});
  EXPECT_EQ(masked.targets, (Ids{2, 2, 2, 9, -1, -1, 4, 4, 9, 3, 9, -1, 1, 9, -1, -1, -1, -1}));
  EXPECT_EQ(masked.segment_offsets, (Ids{0, 5, 6, 10, 12, 15, 18}));
  EXPECT_EQ(masked.positions, (Ids{0, 1, 2, 3, 4, 0, 0, 1, 2, 3, 0, 1, 0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(masked.predicted, 11);
  const Batch open_ends = assemble_sequential(data, 0, 3, {.end_of_text = kEnd});
  EXPECT_EQ(open_ends.targets, masked.targets);
  EXPECT_EQ(open_ends.segment_offsets, (Ids{0, 5, 6, 12, 15, 18}));
}

TEST_F(DocumentDatasetTest, LongDocuments) {
  const std::vector<std::uint16_t> ids = {1, 2, 3, 4, 5, 6, 9, 7, 9};
  const PackedDataset cut(open({ids}), options(3));
  ASSERT_EQ(cut.size(), 2);
  EXPECT_EQ(read(cut, 0).ids, (Ids{1, 2, 3}));
  EXPECT_EQ(read(cut, 1).ids, (Ids{7, 9, 8}));
  EXPECT_EQ(cut.dropped_tokens(), 4);
  const PackedDataset kept(open({ids}), options(3, LongDocuments::fragment));
  ASSERT_EQ(kept.size(), 3);
  EXPECT_EQ(read(kept, 0).ids, (Ids{1, 2, 3}));
  EXPECT_EQ(read(kept, 1).ids, (Ids{4, 5, 6}));
  EXPECT_EQ(read(kept, 2).ids, (Ids{7, 9, 9}));  // the 2 of the second document, and the rest of the first
  EXPECT_EQ(kept.dropped_tokens(), 0);
}

TEST_F(DocumentDatasetTest, FilesAreGroupedForPacking) {
  const std::vector<std::vector<std::uint16_t>> files = {{1, 9}, {2, 9}, {3, 9}};
  EXPECT_EQ(PackedDataset(open(files), options(6)).size(), 3);
  const PackedDataset two(open(files), options(6, LongDocuments::truncate, 2));
  ASSERT_EQ(two.size(), 2);
  EXPECT_EQ(read(two, 0).ids, (Ids{1, 9, 2, 9, 8, 8}));
  EXPECT_EQ(PackedDataset(open(files), options(6, LongDocuments::truncate, 8)).size(), 1);
}

TEST_F(DocumentDatasetTest, PaddedKeepsFileOrder) {
  const PaddedDataset data(open({{1, 9, 2, 2, 2, 2, 9}, {3, 3}}), options(4));
  ASSERT_EQ(data.size(), 3);
  EXPECT_EQ(read(data, 0).ids, (Ids{1, 9, 8, 8}));
  EXPECT_EQ(read(data, 1).ids, (Ids{2, 2, 2, 2}));
  EXPECT_EQ(read(data, 2).ids, (Ids{3, 3, 8, 8}));  // a last document need not be closed
}

TEST_F(DocumentDatasetTest, ABoundsListTellsDocumentsApart) {
  auto files = open({{1, 2, 3, 4, 5}});
  write_document_bounds(folder_ / "0.csv.gz", std::vector<DocumentBounds>{{0, 2}, {3, 5}});
  const PackedDataset data(std::move(files), options(5));
  EXPECT_EQ(read(data, 0).ids, (Ids{1, 2, 4, 5, 8}));
  const Batch batch =
      assemble_sequential(data, 0, 1, {.end_of_text = kEnd, .document_masking = DocumentMasking::yes});
  EXPECT_EQ(batch.segment_offsets, (Ids{0, 2, 4, 5}));
}

TEST_F(DocumentDatasetTest, LabelsTravelWithTheirTokens) {
  std::vector<TokenFile> files = open({{1, 9, 2, 2, 9}});
  write("a.mask", std::string("\0\1\1\0\1", 5));
  files[0] = TokenFile(folder_ / "0.u16", {.vocabulary_size = 10, .label_mask = folder_ / "a.mask"});
  files.emplace_back(write_ids<std::uint16_t>("plain.u16", {3, 9}), TokenFileOptions{.vocabulary_size = 10});
  const PackedDataset data(std::move(files), options(8, LongDocuments::truncate, 2));
  ASSERT_EQ(data.size(), 1);
  EXPECT_EQ(read(data, 0).ids, (Ids{2, 2, 9, 1, 9, 3, 9, 8}));
  EXPECT_EQ(read(data, 0).labels, (Labels{1, 0, 1, 0, 1, 1, 1, 1}));
  const Batch batch = assemble_sequential(data, 0, 1, {.end_of_text = kEnd});
  EXPECT_EQ(batch.targets, (Ids{-1, 9, -1, 9, 3, 9, -1, -1}));
  EXPECT_EQ(batch.predicted, 4);
}

// Every token of every document is in exactly one place, and a second opening gives the same.
TEST_F(DocumentDatasetTest, NothingIsLostOrDoubled) {
  Random random(5, 0);
  std::vector<std::vector<std::uint16_t>> files(3);
  std::multiset<Ids> documents;
  for (auto& file : files) {
    for (int d = 0; d < 40; ++d) {
      Ids document(random.next_u64() % 12);
      for (TokenId& id : document) id = static_cast<TokenId>(random.next_u64() % 8);
      document.push_back(kEnd);
      file.insert(file.end(), document.begin(), document.end());
      documents.insert(document);
    }
  }
  const PackedDataset data(open(files), options(12, LongDocuments::fragment, 2)),
      again(open(files), options(12, LongDocuments::fragment, 2));
  std::multiset<Ids> seen;
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const Instance instance = read(data, i);
    EXPECT_EQ(instance.ids, read(again, i).ids);
    for (std::size_t d = 0; d < instance.documents.size(); ++d) {
      const auto begin = instance.ids.begin() + instance.documents[d];
      const auto end = d + 1 < instance.documents.size() ? instance.ids.begin() + instance.documents[d + 1]
                                                         : instance.ids.end() - instance.padding;
      seen.insert(Ids(begin, end));
    }
  }
  EXPECT_EQ(seen, documents);
}

TEST_F(DocumentDatasetTest, ErrorsSayWhatIsWrong) {
  const std::vector<std::vector<std::uint16_t>> one = {{1, 9}};
  expect_error([&] { PackedDataset(open(one), options(1)); }, {"sequence length 1"});
  expect_error([&] { PackedDataset({}, options(4)); }, {"at least one token file"});
  expect_error([&] { PackedDataset(open(one), options(4, LongDocuments::truncate, 0)); },
               {"group size is 0"});
  expect_error([&] { PaddedDataset(open(one), {.sequence_length = 4, .end_of_text = kEnd, .pad = 10}); },
               {"0.u16", "pad id 10", "10"});
  expect_error([&] { PaddedDataset(open(one), {.sequence_length = 4, .pad = 1}); },
               {"0.u16", "0.csv.gz", "end-of-text"});
  const PaddedDataset data(open(one), options(4));
  expect_error([&] { read(data, 1); }, {"instance 1", "of 1"});
  write_document_bounds(folder_ / "0.csv.gz", {});
  expect_error([&] { PackedDataset(open(one), options(4)); }, {"0.u16", "list of documents", "empty"});
}

}  // namespace
}  // namespace braid::data
