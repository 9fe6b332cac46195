// Whole runs: exact repetition, exact resumption, what binds a run.
#include "braid/train/run.h"

#include "braid/model/config_file.h"
#include "braid/model/weights.h"
#include "tests/train/small_run.h"

namespace braid::test {
namespace {

TEST(Run, RepeatsBitForBit) {
  const auto first = unbroken();
  EXPECT_EQ(first, unbroken());
  EXPECT_EQ(std::ranges::count(first.metrics, '\n'), 6 + 3);
}

TEST(Run, RecomputeGivesTheSameRun) {
  const auto want = unbroken();
  for (const auto* recompute : {"train.recompute=block", "train.recompute=auto"}) {
    EXPECT_EQ(unbroken({recompute}), want) << recompute;
  }
}

TEST(Run, ResumedIsUnbroken) {
  const auto want = unbroken();
  for (const std::int64_t stop : {1, 2, 3, 5, 6}) {
    const TemporaryFolder folder;
    const auto config = config_in(folder.path());
    EXPECT_THROW(run(config, stop), Stop);
    EXPECT_EQ(run(config), train::RunOutcome::finished);
    EXPECT_EQ(result_of(folder.path()), want) << "stopped after step " << stop;
    EXPECT_EQ(run(config), train::RunOutcome::already_complete);
  }
}

TEST(Run, ResumedIsUnbrokenWithSkippedStepsAndChangingBatches) {
  const std::vector<std::string> overrides{"optimizer.kind=skip_step_adamw", "optimizer.skip_window=4",
                                           "optimizer.skip_sigma=0.5",       "train.batch_warmup=[[4,2]]",
                                           "train.skip_steps=[[3,3]]",       "schedule.decay=wsd-s",
                                           "schedule.period_end_steps=[3,6]"};
  const auto want = unbroken(overrides);
  EXPECT_HOLDS(want.metrics, "{\"step\":3,\"tokens\":192,\"learning_rate\":0.0,");
  std::int64_t skipped = 0;
  for (auto at = want.metrics.find("skipped"); at != want.metrics.npos;
       at = want.metrics.find("skipped", at + 1)) {
    ++skipped;
  }
  EXPECT_GT(skipped, 1);  // the range, and some by the rule
  for (const std::int64_t stop : {1, 2, 3, 5}) {
    const TemporaryFolder folder;
    const auto config = config_in(folder.path(), overrides);
    EXPECT_THROW(run(config, stop), Stop);
    run(config);
    EXPECT_EQ(result_of(folder.path()), want) << "stopped after step " << stop;
  }
}

TEST(Run, AnotherRecipeDoesNotContinueTheRun) {
  const TemporaryFolder folder;
  EXPECT_THROW(run(config_in(folder.path()), 3), Stop);
  const auto message = message_of([&] { run(config_in(folder.path(), {"schedule.learning_rate=0.02"})); });
  EXPECT_HOLDS(message, "learning_rate");
}

TEST(Run, AFailedStartBindsNothing) {
  const TemporaryFolder folder;
  const auto message = message_of([&] { run(config_in(folder.path(), {"data.documents=['/none.jsonl']"})); });
  EXPECT_HOLDS(message, "/none.jsonl");
  EXPECT_EQ(run(config_in(folder.path())), train::RunOutcome::finished);
  fs::remove(folder.path() / "run/recipe.toml");
  EXPECT_HOLDS(message_of([&] { run(config_in(folder.path())); }), "recipe.toml");
}

TEST(Run, OtherDataDoesNotContinueTheRun) {
  const TemporaryFolder folder;
  const auto config = config_in(folder.path());
  EXPECT_THROW(run(config, 3), Stop);
  auto documents = io::read_file(folder.path() / "text.jsonl");
  documents.erase(0, documents.find('\n') + 1);
  put(folder.path() / "text.jsonl", documents);
  EXPECT_HOLDS(message_of([&] { run(config); }), "began on other data");
}

TEST(Run, ValidationWithoutTargetsIsNamed) {
  const TemporaryFolder folder;
  const auto tokens = folder / "a.u16", mask = folder / "a.mask";
  std::string ids;
  for (int i = 0; i < 128; ++i) ids += std::string("a\0", 2);
  put(tokens, ids);
  put(mask, std::string(128, '\0'));
  const auto table = fmt::format("[{{name = 'held', files = ['{}'], label_masks = ['{}']}}]", tokens.string(),
                                 mask.string());
  const auto config =
      config_in(folder.path(), {"data.validation_fraction=0", "data.validation_sources=" + table});
  EXPECT_HOLDS(message_of([&] { run(config); }),
               "validation 'held': nothing in its 4 sequences is predicted");
}

TEST(Run, SpecialIdsComeFromTheTokenizer) {
  const TemporaryFolder folder;
  auto config = config_in(folder.path(), {"model.vocabulary_size=512", "train.steps=1"});
  config.model.eos_ids = {400};
  config.model.pad_id = 'h';  // its embedding would stay as it is
  run(config);
  const auto trained = model::read_config(folder.path() / "run/model");
  EXPECT_EQ(trained.eos_ids, std::vector<std::int64_t>{256});
  EXPECT_EQ(trained.pad_id, std::nullopt);
}

TEST(Run, TokenFilesOfAnotherTokenizerAreRefused) {
  const TemporaryFolder folder;
  run(config_in(folder.path()));
  const auto data = folder.path() / "run/data";
  auto sidecar = io::read_file(data / "train.json");
  const auto at = sidecar.find("\"tokenizer\": \"") + 14;
  sidecar.replace(at, 16, std::string(16, 'a'));
  put(data / "train.json", sidecar);
  auto config = config_in(folder.path());
  config.folder = folder.path() / "other";
  config.data.sources[0].documents = {};
  config.data.sources[0].train = {data / "train.u16"};
  const auto message = message_of([&] { run(config); });
  EXPECT_HOLDS(message, "aaaaaaaaaaaaaaaa");
}

TEST(Run, NonFiniteLossStopsBeforeACheckpoint) {
  const TemporaryFolder folder;
  const auto message = message_of([&] {
    run(config_in(folder.path(), {"schedule.learning_rate=1000", "optimizer.max_gradient_norm=0",
                                  "train.steps=60", "optimizer.weight_decay=1000"}));
  });
  EXPECT_HOLDS(message, "not finite");
}

TEST(Run, StartsFromAModelDirectory) {
  const TemporaryFolder folder;
  run(config_in(folder.path()));
  const auto first = result_of(folder.path());
  const auto model = folder.path() / "start";
  fs::rename(folder.path() / "run/model", model);
  fs::remove_all(folder.path() / "run");
  auto config = config_in(folder.path(), {"schedule.learning_rate=0", "optimizer.weight_decay=0"});
  config.initial_model = model;
  config.model = model::load_model(model, {}).config;
  run(config);
  EXPECT_EQ(result_of(folder.path()).weights, first.weights);
}

TEST(Run, ValidationLossFalls) {
  const auto metrics = unbroken({"train.steps=40", "validation.every=40"}).metrics;
  std::vector<double> losses;
  for (auto at = metrics.find("validation_loss\":"); at != std::string::npos;
       at = metrics.find("validation_loss\":", at + 1)) {
    losses.push_back(std::stod(metrics.substr(at + 17)));
  }
  ASSERT_EQ(losses.size(), 2u);
  EXPECT_LT(losses[1], losses[0] - 1);
}

// A stop that comes while data are prepared: nothing is half-written, and the same call goes on.
TEST(Run, StopsBeforeTheFirstStep) {
  const auto whole = unbroken();
  for (int asked_before = 0; asked_before < 4; ++asked_before) {
    const TemporaryFolder folder;
    const auto config = config_in(folder.path());
    int asked = 0;
    train::Observer observer;
    observer.stop_requested = [&] { return asked++ >= asked_before; };
    EXPECT_EQ(run(config, observer), train::RunOutcome::stopped) << asked_before;
    EXPECT_FALSE(fs::exists(folder / "run/model"));
    EXPECT_TRUE(fs::is_empty(folder / "run/checkpoints")) << asked_before;
    EXPECT_EQ(fs::file_size(folder / "run/metrics.jsonl"), 0u) << asked_before;
    for (const auto& entry : fs::recursive_directory_iterator(folder / "run")) {
      EXPECT_FALSE(entry.path().filename().string().ends_with(".tmp")) << entry.path();
    }
    run(config);
    EXPECT_EQ(result_of(folder.path()), whole) << asked_before;
  }
}

}  // namespace
}  // namespace braid::test
