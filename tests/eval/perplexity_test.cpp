#include "braid/eval/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "braid/backends/backends.h"
#include "braid/data/document_dataset.h"
#include "braid/model/session.h"
#include "tests/model/golden_models.h"

namespace braid::eval {
namespace {

using Ids = std::vector<std::int32_t>;

class Perplexity : public ::testing::Test {
 protected:
  TextLoss score(const std::vector<std::string>& documents, PerplexityOptions options) const {
    DocumentScorer scorer(backend_, model_, *tokenizer_, options);
    for (const auto& d : documents) scorer.add(d);
    return scorer.finish();
  }
  // Σ −log p of each window on its own, by a session and a softmax of its own.
  double by_hand(const std::string& document, std::int64_t context) const {
    Ids ids{256};
    for (const auto id : tokenizer_->encode(document)) ids.push_back(id);
    ids.push_back(256);
    double sum = 0;
    for (std::size_t first = 0; first + 1 < ids.size(); first += static_cast<std::size_t>(context)) {
      const auto n = std::min<std::size_t>(static_cast<std::size_t>(context), ids.size() - 1 - first);
      model::Session session(backend_, model_.config, model_.parameters.tree(),
                             {.sequences = 1, .capacity = 512, .max_tokens = 512});
      const Ids window(ids.begin() + static_cast<std::ptrdiff_t>(first),
                       ids.begin() + static_cast<std::ptrdiff_t>(first + n));
      const auto logits = session.extend({window}, model::LogitRows::all);
      for (std::size_t t = 0; t < n; ++t) {
        const float* row = logits.as<float>() + static_cast<std::int64_t>(t) * logits.shape[1];
        double z = 0;
        for (std::int64_t i = 0; i < logits.shape[1]; ++i) z += std::exp(static_cast<double>(row[i]));
        sum += std::log(z) - row[ids[first + t + 1]];
      }
    }
    return sum;
  }
  model::Model model_ = test::golden_model("hybrid");
  std::unique_ptr<text::Tokenizer> tokenizer_ = text::byte_tokenizer();
  Backend backend_ = make_backend("reference");
};

const std::vector<std::string> kDocuments{"one document of some length", "", "another", "x",
                                          "the last, which is longer than a window of sixteen"};

TEST_F(Perplexity, EveryTokenIsPredictedOnceFromItsOwnWindow) {
  for (const std::int64_t context : {7, 16, 200}) {
    const auto got = score(kDocuments, {.context = context, .batch_tokens = 64});
    double want = 0;
    std::int64_t bytes = 0;
    for (const auto& d : kDocuments) {
      want += by_hand(d, context);
      bytes += static_cast<std::int64_t>(d.size());
    }
    const auto documents = static_cast<std::int64_t>(kDocuments.size());
    EXPECT_EQ(got.tokens, bytes + documents);  // each byte, and each end of text
    EXPECT_EQ(got.text_bytes, bytes);
    EXPECT_EQ(got.documents, documents);
    EXPECT_NEAR(got.nll_sum / want, 1, 1e-5) << "context " << context;
    EXPECT_DOUBLE_EQ(got.loss(), got.nll_sum / static_cast<double>(got.tokens));
    EXPECT_DOUBLE_EQ(got.perplexity(), std::exp(got.loss()));
    EXPECT_DOUBLE_EQ(got.bits_per_byte(), got.nll_sum / std::log(2.0) / static_cast<double>(bytes));
  }
}

TEST_F(Perplexity, NeighboursAndBatchesDoNotMatter) {
  for (const char* name : {"reference", "cpu"}) {
    backend_ = make_backend(name, {.threads = 1, .target = {}});
    backend_.arithmetic = Arithmetic::strict;
    const auto whole = score(kDocuments, {.context = 16, .batch_tokens = 16});
    EXPECT_EQ(score(kDocuments, {.context = 16, .batch_tokens = 4096}).nll_sum, whole.nll_sum) << name;
    double alone = 0;
    for (const auto& d : kDocuments) alone += score({d}, {.context = 16}).nll_sum;
    EXPECT_NEAR(whole.nll_sum / alone, 1, 1e-14) << name;  // f64 additions in another order
  }
}

// With document masking a packed document has the loss that it has alone. A label mask keeps first tokens
// from being targets, which only the packed ones have something before. f32 sums of rows elsewhere in a batch
// may take another order, hence 1e-5.
TEST_F(Perplexity, PackedDocumentsAreAsGoodAsAlone) {
  test::TemporaryFolder folder;
  data::TokenFileWriter writer(folder / "x.u16", data::vocabulary_of(*tokenizer_));
  for (const auto& document : kDocuments) {
    auto ids = tokenizer_->encode(document);
    ids.push_back(256);
    std::vector<std::uint8_t> labels(ids.size(), 1);
    labels[0] = 0;
    writer.append_labelled(ids, labels, static_cast<std::int64_t>(document.size()));
  }
  writer.commit();
  const auto open = [&] {
    std::vector<data::TokenFile> files;
    files.emplace_back(folder / "x.u16");
    return files;
  };
  const data::DocumentOptions options{.sequence_length = 60, .end_of_text = 256, .pad = 256};
  const data::BatchOptions masked{.end_of_text = 256, .document_masking = data::DocumentMasking::yes};
  const data::PackedDataset packed(open(), options);
  const data::PaddedDataset alone(open(), options);
  EXPECT_LT(packed.size(), alone.size());
  for (const char* name : {"hybrid", "olmo3"}) {
    model_ = test::golden_model(name);
    const auto together =
        score_instances(backend_, model_, packed, masked, {.batch_tokens = 120}, tokenizer_.get());
    const auto apart =
        score_instances(backend_, model_, alone, masked, {.batch_tokens = 120}, tokenizer_.get());
    EXPECT_EQ(together.tokens, apart.tokens) << name;
    EXPECT_EQ(together.text_bytes, apart.text_bytes) << name;
    EXPECT_NEAR(together.nll_sum / apart.nll_sum, 1, 1e-5) << name;
  }
}

TEST_F(Perplexity, InstancesOfTokenFiles) {
  test::TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>('a' + i * i % 26);
  data::TokenFileWriter writer(folder / "x.u16", data::vocabulary_of(*tokenizer_));
  writer.append_document(tokenizer_->encode(text), 100);
  writer.commit();
  std::vector<data::TokenFile> files;
  files.emplace_back(folder / "x.u16");
  const data::FixedLengthDataset dataset(std::move(files), 20);
  const auto got = score_instances(backend_, model_, dataset, {}, {.batch_tokens = 50}, tokenizer_.get());
  EXPECT_EQ(got.instances, 5);
  EXPECT_EQ(got.tokens, 5 * 19);
  EXPECT_EQ(got.text_bytes, 5 * 19);
  double want = 0;
  for (int i = 0; i < 5; ++i) {
    model::Session session(backend_, model_.config, model_.parameters.tree(),
                           {.sequences = 1, .capacity = 32, .max_tokens = 32});
    const auto ids = tokenizer_->encode(text.substr(static_cast<std::size_t>(20 * i), 20));
    const auto logits = session.extend({ids}, model::LogitRows::all);
    for (std::int64_t t = 0; t < 19; ++t) {
      const float* row = logits.as<float>() + t * logits.shape[1];
      double z = 0;
      for (std::int64_t k = 0; k < logits.shape[1]; ++k) z += std::exp(static_cast<double>(row[k]));
      want += std::log(z) - row[ids[static_cast<std::size_t>(t + 1)]];
    }
  }
  EXPECT_NEAR(got.nll_sum / want, 1, 1e-5);
  // Without a tokenizer the text is unknown, the loss is not.
  const auto bare = score_instances(backend_, model_, dataset, {}, {.batch_tokens = 50}, nullptr);
  EXPECT_EQ(bare.nll_sum, got.nll_sum);
  EXPECT_EQ(bare.text_bytes, 0);
  test::expect_error([&] { bare.bits_per_byte(); }, {"bits per byte"});
}

TEST_F(Perplexity, PositionPartsSumToTheWholeAndTellPlacesApart) {
  const auto whole = score(kDocuments, {.context = 16, .batch_tokens = 64});
  const auto got = score(kDocuments, {.context = 16, .batch_tokens = 64, .position_parts = 4});
  EXPECT_EQ(got.nll_sum, whole.nll_sum);
  ASSERT_EQ(got.part_nll.size(), 4u);
  double sum = 0;
  std::int64_t tokens = 0;
  for (std::size_t i = 0; i < 4; ++i) sum += got.part_nll[i], tokens += got.part_tokens[i];
  EXPECT_NEAR(sum / got.nll_sum, 1, 1e-14);
  EXPECT_EQ(tokens, got.tokens);
  // Windows of 16: "" and "x" with their ends of text fall into the first four positions.
  EXPECT_EQ(score({"", "x"}, {.context = 16, .position_parts = 4}).part_tokens,
            (std::vector<std::int64_t>{3, 0, 0, 0}));
  EXPECT_EQ(score({"abcdefg"}, {.context = 16, .position_parts = 4}).part_tokens,
            (std::vector<std::int64_t>{4, 4, 0, 0}));
  test::expect_error([&] { score({"x"}, {.context = 16, .position_parts = 17}); }, {"17 position parts"});
}

TEST_F(Perplexity, NothingToScoreIsAnError) {
  test::expect_error([&] { score({}, {.context = 16}).loss(); }, {"nothing was scored"});
  test::expect_error([&] { score({}, {.context = 1}); }, {"context"});
  model_.config.vocabulary_size = 256;  // the end of text is 256
  test::expect_error([&] { score({}, {.context = 16}); }, {"end of text", "256"});
}

}  // namespace
}  // namespace braid::eval
