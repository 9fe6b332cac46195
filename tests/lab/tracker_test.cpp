// A swap tracker learns reflections: the miniature's own training, then a look inside.
#include <gtest/gtest.h>

#include "braid/backends/backends.h"
#include "braid/lab/experiment/experiment_run.h"
#include "braid/lab/experiment/lab_tokenizer.h"
#include "braid/lab/inspect/inspect.h"
#include "tests/support/files.h"

namespace braid::test {
namespace {

using namespace lab;

TEST(FullTracker, LearnsBetaOfTwoOnSwaps) {
  const TemporaryFolder folder;
  const auto e = read_experiment(source_folder() / "configs/lab/quick/tracking.toml",
                                 {fmt::format("folder=\"{}\"", folder.path().string()),
                                  "model.architectures=[\"gdn-negative\"]", "train.keep_models=\"all\""});
  const std::vector<Backend> backends{make_backend("cpu", {.threads = 1, .target = {}})};
  ASSERT_EQ(run_experiment(backends, e), RunOutcome::finished);
  const auto store = read_store(e.folder);
  EXPECT_GE(store.runs[0].result->lengths[2].accuracy(), 0.95) << "at n = 16";

  const auto directory = e.folder / "runs" / e.runs()[0].name() / "model";
  const auto tokenizer = LabTokenizer::of_model(directory);
  const auto ids = e.problem->make(e.form, e.difficulty(16, 0), 9, 0).ids;
  std::vector<std::string> words;
  for (const auto id : ids) words.push_back(tokenizer.vocabulary().word(id));
  EXPECT_EQ(tokenizer.encode(tokenizer.decode(ids)), ids);
  const auto inspection =
      inspect(backends[0], model::load_model(directory, {}, backends[0].memory), ids, words);
  double greatest = 0;
  for (const auto& head : inspection.heads) {
    double least = 2;  // over swaps
    for (std::size_t t = 0; t < words.size(); ++t) {
      if (holds(words[t], ",")) least = std::min(least, head.beta[t]);
    }
    greatest = std::max(greatest, least);
  }
  EXPECT_GT(greatest, 1.9) << "no head has beta near 2 on every swap";
}

}  // namespace
}  // namespace braid::test
