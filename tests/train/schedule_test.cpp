#include <gtest/gtest.h>

#include "braid/train/config.h"
#include "tests/support/files.h"

namespace braid::test {
namespace {

using train::Decay;
using train::learning_rate;
using train::ScheduleConfig;

TEST(Schedule, WarmsUpLinearlyThenDecays) {
  const ScheduleConfig s{.peak = 1, .warmup_steps = 10, .decay = Decay::linear, .final_fraction = 0.1};
  EXPECT_DOUBLE_EQ(learning_rate(s, 1, 110), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(s, 10, 110), 1);
  EXPECT_DOUBLE_EQ(learning_rate(s, 60, 110), 0.55);
  EXPECT_DOUBLE_EQ(learning_rate(s, 110, 110), 0.1);
}

TEST(Schedule, CosineHalfWayIsTheMiddle) {
  const ScheduleConfig s{.peak = 2, .warmup_steps = 0, .decay = Decay::cosine, .final_fraction = 0};
  EXPECT_DOUBLE_EQ(learning_rate(s, 50, 100), 1);
  EXPECT_NEAR(learning_rate(s, 100, 100), 0, 1e-15);
  EXPECT_NEAR(learning_rate(s, 25, 100), 1 + std::sqrt(0.5), 1e-12);
}

TEST(Schedule, ConstantStaysAtThePeakAndWarmupMayFillTheRun) {
  const ScheduleConfig s{.peak = 3, .warmup_steps = 4, .decay = Decay::constant, .final_fraction = 0.1};
  EXPECT_DOUBLE_EQ(learning_rate(s, 99, 100), 3);
  EXPECT_DOUBLE_EQ(learning_rate(s, 4, 4), 3);
}

constexpr std::string_view kRecipe = R"(
[run]
folder = "x"
[data]
documents = ["d.txt"]
[model]
layers = 4
hidden_size = 32
heads = 2
[train]
steps = 10
)";

std::string message_with(const std::vector<std::string>& overrides) {
  const TemporaryFolder folder;
  const auto path = put(folder / "recipe.toml", kRecipe);
  return message_of([&] { train::read_run_config(path, overrides); });
}

TEST(Recipe, DefaultsAndOverrides) {
  const TemporaryFolder folder;
  const auto path = put(folder / "recipe.toml", kRecipe);
  const auto c = train::read_run_config(path, {"train.steps=20", "model.variant=gdn", "optimizer.z_loss=0"});
  EXPECT_EQ(c.steps, 20);
  EXPECT_FALSE(c.model.has_attention());
  EXPECT_EQ(c.optimizer.z_loss, 0);
  EXPECT_EQ(c.micro_batch_size, c.batch_size);
  EXPECT_EQ(c.data.folder, std::filesystem::path("x") / "data");
}

TEST(Recipe, MistakesAreNamed) {
  EXPECT_HOLDS(message_with({"train.stepz=3"}), "stepz");
  EXPECT_HOLDS(message_with({"train.steps=0"}), "train.steps");
  EXPECT_HOLDS(message_with({"train.steps=\"many\""}), "train.steps");
  EXPECT_HOLDS(message_with({"schedule.decay=square"}), "decay");
  EXPECT_HOLDS(message_with({"schedule.warmup_steps=11"}), "warmup_steps");
  EXPECT_HOLDS(message_with({"train.micro_batch_size=3"}), "micro_batch_size");
  EXPECT_HOLDS(message_with({"model.variant=4:1"}), "variant");
  EXPECT_HOLDS(message_with({"model.preset=big"}), "preset");
  EXPECT_HOLDS(message_with({"data.train=[\"t.u16\"]"}), "documents");
  EXPECT_HOLDS(message_with({"model.layer_types=[\"conv\"]"}), "layer_types");
  EXPECT_HOLDS(message_with({"model.hidden_size=33"}), "hidden_size");
  EXPECT_HOLDS(message_with({"data.validation=[\"v.u16\"]"}), "validation");
}

}  // namespace
}  // namespace braid::test
