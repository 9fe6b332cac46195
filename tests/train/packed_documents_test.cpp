// Point 2 of the promises on data: a document's loss is the same packed among others, padded up, or alone.
#include <map>

#include "braid/data/document_dataset.h"
#include "braid/model/work_memory.h"
#include "tests/train/trainer_support.h"

namespace braid::test {
namespace {

using data::TokenId;
using Document = std::vector<TokenId>;
// Token losses of each document, by its ids. What the last token predicts is not the document's.
using DocumentLosses = std::map<Document, std::vector<float>>;

constexpr TokenId kEnd = 1, kPad = 0;
constexpr std::int64_t kRow = 96;

// Relative, of a document's mean loss: 16 unit roundoffs of f32, in which fast arithmetic sums in another
// order at another shape. The largest here is 2.3e-8.
constexpr double kReordered = 1e-6;

std::vector<Document> documents(std::int64_t vocabulary) {
  std::vector<Document> all;
  std::uint64_t seed = 11;
  // From two tokens to a whole row, on both sides of the delta rule's chunks of 64 and the window of 16.
  for (const std::int64_t length : {2, 3, 15, 17, 31, 40, 63, 64, 65, 80, 95, 96}) {
    auto ids = small_ids(length, vocabulary, ++seed);
    for (auto& id : ids) id = std::max<TokenId>(id, 2);
    ids.back() = kEnd;
    all.push_back(std::move(ids));
  }
  return all;
}

std::vector<data::TokenFile> file_of(const TemporaryFolder& folder, const std::vector<Document>& all) {
  std::vector<std::uint16_t> flat;
  for (const auto& d : all) flat.insert(flat.end(), d.begin(), d.end());
  const auto path = put(folder / "all.u16", {reinterpret_cast<const char*>(flat.data()), 2 * flat.size()});
  std::vector<data::TokenFile> files;
  files.emplace_back(path, data::TokenFileOptions{.vocabulary_size = 96});
  return files;
}

// Through the data path and the trainer, micro-batch by micro-batch.
DocumentLosses in_batches(SmallTrainer& t, const data::Dataset& dataset) {
  DocumentLosses out;
  for (std::int64_t first = 0; first < dataset.size(); first += t.config.batch_size) {
    const auto batch =
        data::assemble_sequential(dataset, first, t.config.batch_size,
                                  {.end_of_text = kEnd, .document_masking = data::DocumentMasking::yes});
    const auto losses = t.trainer.token_losses(batch);
    for (std::size_t s = 0; s + 1 < batch.segment_offsets.size(); ++s) {
      const auto begin = batch.segment_offsets[s], end = batch.segment_offsets[s + 1];
      Document ids(batch.ids.begin() + begin, batch.ids.begin() + end);
      if (ids.front() == kPad) continue;
      const bool fresh =
          out.emplace(std::move(ids), std::vector(losses.begin() + begin, losses.begin() + end - 1)).second;
      EXPECT_TRUE(fresh) << "a document came twice";
    }
  }
  return out;
}

// With no other token in the whole computation.
DocumentLosses alone(const SmallTrainer& t, const std::vector<Document>& all) {
  DocumentLosses out;
  for (const auto& ids : all) {
    const auto length = static_cast<std::int64_t>(ids.size());
    std::vector<std::int32_t> targets(ids.begin() + 1, ids.end());
    targets.push_back(-1);
    const auto layout = model::RowLayout::of(1, length);
    model::run_once(t.backend, [&](Context& ctx, Arena& step) {
      const auto policy = model::make_policy(ctx, step, t.config.model, kRow, DType::f32);
      const model::TokenLosses losses{step.make(DType::f32, {length}), step.make(DType::f32, {length})};
      model::score(ctx, step, losses, t.trainer.parameters().tree(), policy,
                   model::HostBatch{ids, targets, layout.positions, layout.offsets}.upload(ctx, step));
      if (ctx.device == Device::dry) return;
      const auto* values = losses.loss.as<float>();
      out.emplace(ids, std::vector(values, values + length - 1));
    });
  }
  return out;
}

double mean(const std::vector<float>& losses) {
  double sum = 0;
  for (const float x : losses) sum += static_cast<double>(x);
  return sum / static_cast<double>(losses.size());
}

void expect_equal(const DocumentLosses& got, const DocumentLosses& want, Arithmetic arithmetic,
                  const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (const auto& [ids, losses] : want) {
    ASSERT_TRUE(got.contains(ids)) << what << ", the document of " << ids.size() << " tokens";
    const auto& mine = got.at(ids);
    const auto where = fmt::format("{}, the document of {} tokens", what, ids.size());
    if (arithmetic == Arithmetic::strict) {
      EXPECT_EQ(mine, losses) << where;
    } else {
      EXPECT_NEAR(mean(mine), mean(losses), kReordered * mean(losses)) << where;
    }
  }
}

class PackedDocuments : public ::testing::TestWithParam<std::size_t> {};

TEST_P(PackedDocuments, HaveTheLossTheyHaveAlone) {
  const auto model = small_models()[GetParam()];
  const auto all = documents(model.config.vocabulary_size);
  const TemporaryFolder folder;
  const data::DocumentOptions options{.sequence_length = kRow, .end_of_text = kEnd, .pad = kPad};
  const data::PackedDataset packed(file_of(folder, all), options);
  const data::PaddedDataset padded(file_of(folder, all), options);
  ASSERT_LT(packed.size(), padded.size());
  for (const auto arithmetic : {Arithmetic::strict, Arithmetic::fast}) {
    auto config = small_training(GetParam());
    config.data.sequence_length = kRow;
    SmallTrainer t(config, "cpu", arithmetic);
    const auto want = alone(t, all);
    const auto what = fmt::format("{}, {}", model.name, arithmetic == Arithmetic::strict ? "strict" : "fast");
    expect_equal(in_batches(t, packed), want, arithmetic, what + ", packed");
    expect_equal(in_batches(t, padded), want, arithmetic, what + ", padded");
  }
}

std::string model_name(const ::testing::TestParamInfo<std::size_t>& info) {
  auto name = small_models()[info.param].name;
  std::ranges::replace(name, '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Models, PackedDocuments, ::testing::Range<std::size_t>(0, small_models().size()),
                         model_name);

}  // namespace
}  // namespace braid::test
