// Checkpoints of whole runs: which are kept, what damage and full disks do, how a run stops and goes on.
#include "braid/train/checkpoint.h"

#include <chrono>
#include <thread>

#include "tests/support/file_size_limit.h"
#include "tests/train/small_run.h"

namespace braid::test {
namespace {

std::vector<std::string> checkpoints_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder / "run/checkpoints")) {
    names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

void flip_byte(const fs::path& path, std::size_t at) {
  auto bytes = io::read_file(path);
  bytes.at(at) = static_cast<char>(bytes.at(at) ^ 0x20);
  put(path, bytes);
}

// Killed after step 5, with checkpoints of steps 2 and 4.
train::RunConfig interrupted(const TemporaryFolder& folder, std::vector<std::string> overrides = {}) {
  const auto config = config_in(folder.path(), std::move(overrides));
  EXPECT_THROW(run(config, 5), Stop);
  EXPECT_EQ(checkpoints_in(folder.path()), (std::vector<std::string>{"step_00000002", "step_00000004"}));
  return config;
}

TEST(Checkpoint, WaitedForAndAsynchronousGiveTheSame) {
  EXPECT_EQ(unbroken({"checkpoint.asynchronous=false"}), unbroken());
}

TEST(Checkpoint, DamageAnywhereIsNamedAndThePreviousOneFound) {
  const TemporaryFolder folder;
  interrupted(folder, {"checkpoint.max_shard_bytes=16384"});
  const auto newest = folder / "run/checkpoints/step_00000004";
  std::size_t files = 0, shards = 0;
  for (const auto& entry : fs::directory_iterator(newest)) {
    const auto path = entry.path();
    const auto whole = io::read_file(path);
    ++files;
    shards += path.extension() == ".safetensors";
    const auto expect_passed_over = [&](const std::string& what) {
      const auto found = train::find_checkpoint(folder / "run");
      EXPECT_EQ(found.state.step, 2) << path << what;
      ASSERT_EQ(found.damaged.size(), 1u);
      EXPECT_HOLDS(found.damaged[0].error, path.string());
    };
    for (const std::size_t at : {std::size_t{0}, whole.size() / 3, whole.size() / 2, whole.size() - 1}) {
      flip_byte(path, at);
      expect_passed_over(fmt::format(" flipped at {}", at));
      put(path, whole);
    }
    fs::resize_file(path, whole.size() / 2);
    expect_passed_over(" cut");
    fs::remove(path);
    expect_passed_over(" removed");
    put(path, whole);
  }
  EXPECT_GT(shards, 4u);
  EXPECT_EQ(files, shards + 6);  // two indices, config, tokenizer, state, checksums
  EXPECT_EQ(train::find_checkpoint(folder / "run").state.step, 4);
}

TEST(Checkpoint, ADamagedShardOnlyCostsTime) {
  const auto want = unbroken();
  for (const auto* name : {"model.safetensors", "optimizer.safetensors", "training_state.json"}) {
    const TemporaryFolder folder;
    const auto config = interrupted(folder);
    const auto damaged = folder / "run/checkpoints/step_00000004" / name;
    flip_byte(damaged, fs::file_size(damaged) / 2);
    std::vector<std::string> notices;
    run(config, -1, &notices);
    EXPECT_EQ(result_of(folder.path()), want) << name;
    EXPECT_TRUE(any_holds(notices, "damaged checkpoint", name)) << name;
    EXPECT_TRUE(any_holds(notices, "resuming after step 2")) << name;
  }
}

TEST(Checkpoint, OneWrittenInPlaceOfADamagedOneStays) {
  const TemporaryFolder folder;
  const auto config = interrupted(folder);
  flip_byte(folder / "run/checkpoints/step_00000004/model.safetensors", 0);
  run(config);
  EXPECT_EQ(checkpoints_in(folder.path()), (std::vector<std::string>{"step_00000004", "step_00000006"}));
}

TEST(Checkpoint, AllDamagedStopsWithTheirNames) {
  const TemporaryFolder folder;
  const auto config = interrupted(folder);
  for (const auto* step : {"step_00000002", "step_00000004"}) {
    fs::remove(folder / "run/checkpoints" / step / "model.safetensors");
  }
  EXPECT_HOLDS(message_of([&] { run(config); }), "model.safetensors: is missing");
  EXPECT_HOLDS(message_of([&] { train::find_checkpoint(folder / "run"); }), "no checkpoint that is whole");
  EXPECT_HOLDS(message_of([&] { train::find_checkpoint(folder / "none"); }), "neither a run folder");
}

TEST(Checkpoint, FoundByReadingNotByName) {
  const auto want = unbroken();
  const TemporaryFolder folder;
  const auto config = interrupted(folder);
  const auto checkpoints = folder / "run/checkpoints";
  fs::rename(checkpoints / "step_00000002", checkpoints / "step_00000009");
  fs::rename(checkpoints / "step_00000004", checkpoints / "mine");
  EXPECT_EQ(train::find_checkpoint(folder / "run").path, checkpoints / "mine");
  EXPECT_EQ(train::find_checkpoint(checkpoints / "step_00000009").state.step, 2);
  std::vector<std::string> notices;
  run(config, -1, &notices);
  EXPECT_TRUE(any_holds(notices, "resuming after step 4"));
  EXPECT_EQ(result_of(folder.path()), want);
  EXPECT_TRUE(fs::exists(checkpoints / "mine"));  // renamed by hand: not ours to remove
}

TEST(Checkpoint, KeepsWhatTheRecipeSays) {
  using Names = std::vector<std::string>;
  const auto kept = [](std::vector<std::string> overrides) {
    const TemporaryFolder folder;
    run(config_in(folder.path(), std::move(overrides)));
    return checkpoints_in(folder.path());
  };
  EXPECT_EQ(kept({}), (Names{"step_00000004", "step_00000006"}));
  EXPECT_EQ(kept({"checkpoint.keep=0"}), (Names{"step_00000002", "step_00000004", "step_00000006"}));
  EXPECT_EQ(kept({"checkpoint.keep=1"}), (Names{"step_00000006"}));
  EXPECT_EQ(kept({"checkpoint.every=3", "checkpoint.ephemeral_every=1"}),
            (Names{"step_00000003", "step_00000005", "step_00000006"}));
  EXPECT_EQ(kept({"checkpoint.every=0", "checkpoint.ephemeral_every=2"}),
            (Names{"step_00000004", "step_00000006"}));
}

void wait_for(const fs::path& path) {
  for (int i = 0; i < 10'000 && !fs::exists(path); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  ASSERT_TRUE(fs::exists(path)) << path;
}

constexpr int kRoom = 2000;  // more than the logs have, less than weights take

TEST(Checkpoint, FullDiskIsSaidAndTriedAgain) {
  const auto want = unbroken();
  for (const auto* writing : {"checkpoint.asynchronous=true", "checkpoint.asynchronous=false"}) {
    const TemporaryFolder folder;
    std::vector<std::string> notices;
    const FileSizeLimit limit;
    train::Observer observer;
    observer.stepped = [&](const train::StepProgress& p) {
      if (p.step != 4) return;
      wait_for(folder / "run/checkpoints/step_00000002");
      limit.set(kRoom);
    };
    observer.noticed = [&](const std::string& line) {
      notices.push_back(line);
      if (holds(line, "the checkpoint of step 4")) limit.lift();
    };
    EXPECT_EQ(run(config_in(folder.path(), {writing}), observer), train::RunOutcome::finished);
    EXPECT_TRUE(any_holds(notices, "warning: the checkpoint of step 4", "the one of step 2 is kept"));
    EXPECT_EQ(checkpoints_in(folder.path()), (std::vector<std::string>{"step_00000002", "step_00000006"}));
    EXPECT_EQ(result_of(folder.path()), want);
  }
}

TEST(Checkpoint, FullDiskStopsWhereTheRecipeSaysSo) {
  const TemporaryFolder folder;
  const FileSizeLimit limit;
  train::Observer observer;
  observer.stepped = [&](const train::StepProgress& p) {
    if (p.step != 4) return;
    wait_for(folder / "run/checkpoints/step_00000002");
    limit.set(kRoom);
  };
  const auto config = config_in(folder.path(), {"checkpoint.on_error=stop"});
  EXPECT_HOLDS(message_of([&] { run(config, observer); }), "the checkpoint of step 4 could not be written");
  limit.lift();
  EXPECT_EQ(run(config), train::RunOutcome::finished);
  EXPECT_EQ(result_of(folder.path()), unbroken());
}

TEST(Checkpoint, FullDiskToTheEndIsAnErrorThatLosesNothing) {
  const TemporaryFolder folder;
  const FileSizeLimit limit;
  train::Observer observer;
  observer.stepped = [&](const train::StepProgress& p) {
    if (p.step == 5) limit.set(kRoom);
  };
  const auto config = config_in(folder.path());
  EXPECT_HOLDS(message_of([&] { run(config, observer); }), "the trained model could not be written");
  EXPECT_FALSE(fs::exists(folder / "run/model"));
  limit.lift();
  EXPECT_EQ(run(config), train::RunOutcome::finished);
  EXPECT_EQ(result_of(folder.path()), unbroken());
}

// Asked before every step and before each of a validation's two batches: 12 times in all.
TEST(Checkpoint, StopsWhenAskedAndGoesOn) {
  const auto want = unbroken();
  for (const int granted : {0, 1, 3, 6, 7, 10, 11, 12}) {
    const TemporaryFolder folder;
    const auto config = config_in(folder.path());
    int asked = 0;
    train::Observer observer;
    bool begun = false;  // Run.StopsBeforeTheFirstStep has what comes before
    observer.started = [&](const train::RunSummary&) { begun = true; };
    observer.stop_requested = [&] { return begun && asked++ >= granted; };
    if (granted == 12) {
      EXPECT_EQ(run(config, observer), train::RunOutcome::finished);
    } else {
      EXPECT_EQ(run(config, observer), train::RunOutcome::stopped);
      EXPECT_EQ(run(config), train::RunOutcome::finished);
    }
    EXPECT_EQ(result_of(folder.path()), want) << granted;
  }
}

TEST(Checkpoint, StopWithoutRoomIsAnError) {
  const TemporaryFolder folder;
  const FileSizeLimit limit;
  train::Observer observer;
  bool stop = false;
  observer.stepped = [&](const train::StepProgress& p) {
    if (p.step != 1) return;
    limit.set(kRoom);
    stop = true;
  };
  observer.stop_requested = [&] { return stop; };
  EXPECT_HOLDS(message_of([&] { run(config_in(folder.path()), observer); }),
               "stopped after step 1, but its checkpoint could not be written");
}

// Other splits of the batch sum gradients in another order; recomputing and where things lie change no bit.
TEST(Checkpoint, GoesOnUnderWhatMayChange) {
  const auto want = unbroken();
  const TemporaryFolder folder;
  interrupted(folder);
  std::vector<std::string> notices;
  run(config_in(folder.path(), {"train.recompute=block", "checkpoint.every=1", "run.tensorboard=true"}), -1,
      &notices);
  EXPECT_EQ(result_of(folder.path()), want);
  EXPECT_FALSE(any_holds(notices, "bits may differ"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "run/tensorboard"), {}), 1);
}

TEST(Checkpoint, GoesOnWithAnotherMicroBatch) {
  const auto want = unbroken();
  const TemporaryFolder folder;
  interrupted(folder);
  std::vector<std::string> notices;
  run(config_in(folder.path(), {"train.micro_batch_size=1"}), -1, &notices);
  EXPECT_TRUE(any_holds(notices, "train.micro_batch_size 2", "last bits may differ"));
  const auto got = result_of(folder.path()).metrics;
  const auto loss = [](const std::string& metrics) {
    return std::stod(metrics.substr(metrics.rfind("validation_loss\":") + 17));
  };
  EXPECT_EQ(std::ranges::count(got, '\n'), std::ranges::count(want.metrics, '\n'));
  EXPECT_NEAR(loss(got), loss(want.metrics), 1e-4);  // the same sequences; f32 rounding of two steps
}

TEST(Checkpoint, LoadsWeightsAloneOrWithMoments) {
  const TemporaryFolder folder;
  const auto config = interrupted(folder);
  const auto found = train::find_checkpoint(folder / "run");
  auto model = config.model;
  model.vocabulary_size = 320;
  const model::ParameterSet weights(model, {}), first(model, {}), second(model, {});
  train::load_checkpoint({.parameters = &weights}, found, model);
  EXPECT_NE(to_host<float>(weights.memory(), weights.flat())[0], 0);
  train::load_checkpoint({&weights, &first, &second}, found, model);
  const auto moments = to_host<float>(second.memory(), second.flat());
  EXPECT_TRUE(std::ranges::any_of(moments, [](float v) { return v > 0; }));
  model.hidden_size = 32;
  const model::ParameterSet other(model, {});
  EXPECT_HOLDS(message_of([&] {
                 train::load_checkpoint({&other, &other, &other}, found, model);
               }),
               "first_moment.");
}

}  // namespace
}  // namespace braid::test
