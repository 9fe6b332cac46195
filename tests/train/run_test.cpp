// Whole runs: exact repetition, exact resumption, damage that is found and passed over.
#include "braid/train/run.h"

#include <gtest/gtest.h>

#include "braid/backends/backends.h"
#include "braid/model/config_file.h"
#include "braid/model/weights.h"
#include "tests/support/files.h"

namespace braid::test {
namespace {

namespace fs = std::filesystem;

train::RunConfig config_in(const fs::path& folder, std::vector<std::string> overrides = {}) {
  std::string lines;
  for (int document = 0; document < 12; ++document) {
    std::string text;
    for (int i = 0; i < 15; ++i)
      text += fmt::format("the fox number {} jumps over the lazy dog. ", (i + document) * i);
    lines += "{\"text\": \"" + text + "\"}\n";
  }
  put(folder / "text.jsonl", lines);
  put(folder / "recipe.toml",
      "[run]\nfolder = \"" + (folder / "run").string() + "\"\n[data]\ndocuments = [\"" +
          (folder / "text.jsonl").string() +
          "\"]\nvalidation_fraction = 0.4\nsequence_length = 32\n[model]\nlayers = 4\nhidden_size = "
          "16\nheads = 2\nintermediate_size = 32\n"
          "[train]\nsteps = 6\nbatch_size = 4\nmicro_batch_size = 2\n[schedule]\nlearning_rate = 0.01\n"
          "[validation]\nevery = 3\nbatches = 2\n[checkpoint]\nevery = 2\n");
  return train::read_run_config(folder / "recipe.toml", overrides);
}

struct Stop {};

// Runs to the end, or to `stop_after` steps as if killed there.
train::RunOutcome run(const train::RunConfig& config, std::int64_t stop_after = -1,
                      std::vector<std::string>* notices = nullptr) {
  const Backend backend = make_backend("cpu", {.threads = 1, .target = {}});
  return train::run(backend, config,
                    {.started = {},
                     .stepped =
                         [&](const train::StepProgress& p) {
                           if (p.step == stop_after) throw Stop{};
                         },
                     .validated = {},
                     .noticed =
                         [&](const std::string& line) {
                           if (notices != nullptr) notices->push_back(line);
                         }});
}

struct Result {
  std::string metrics, weights;
  bool operator==(const Result&) const = default;
};
Result result_of(const fs::path& folder) {
  return {io::read_file(folder / "run/metrics.jsonl"), io::read_file(folder / "run/model/model.safetensors")};
}

Result unbroken(std::vector<std::string> overrides = {}) {
  const TemporaryFolder folder;
  run(config_in(folder.path(), std::move(overrides)));
  return result_of(folder.path());
}

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

TEST(Run, DamagedCheckpointIsNamedAndThePreviousOneUsed) {
  const auto want = unbroken();
  const TemporaryFolder folder;
  const auto config = config_in(folder.path());
  EXPECT_THROW(run(config, 5), Stop);
  fs::resize_file(folder.path() / "run/checkpoints/step_00000004/optimizer.safetensors", 1000);
  std::vector<std::string> notices;
  run(config, -1, &notices);
  EXPECT_EQ(result_of(folder.path()), want);
  const bool named = std::ranges::any_of(
      notices, [](const auto& n) { return holds(n, "step_00000004") && holds(n, "damaged"); });
  EXPECT_TRUE(named);
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

}  // namespace
}  // namespace braid::test
