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

TEST(Schedule, FirstAndLastStepWithoutWarmup) {
  ScheduleConfig s{.peak = 2, .warmup_steps = 0, .decay = Decay::linear, .final_fraction = 0};
  EXPECT_DOUBLE_EQ(learning_rate(s, 1, 4), 1.5);
  EXPECT_DOUBLE_EQ(learning_rate(s, 4, 4), 0);
  EXPECT_DOUBLE_EQ(learning_rate(s, 1, 1), 0);
  s.decay = Decay::cosine;
  s.final_fraction = 0.25;
  EXPECT_DOUBLE_EQ(learning_rate(s, 2, 4), 1.25);
  EXPECT_DOUBLE_EQ(learning_rate(s, 4, 4), 0.5);
}

TEST(Schedule, WsdIsFlatUntilItsLastSteps) {
  const ScheduleConfig s{
      .peak = 4, .warmup_steps = 2, .decay = Decay::wsd, .final_fraction = 0.5, .decay_steps = 4};
  const std::vector<double> want{2, 4, 4, 4, 4, 4, 3.5, 3, 2.5, 2};
  for (std::int64_t step = 1; step <= 10; ++step) {
    EXPECT_DOUBLE_EQ(learning_rate(s, step, 10), want[static_cast<std::size_t>(step - 1)]) << step;
  }
}

// Periods of 10, 10 and 20 steps, of which the last 2, 2 and 4 decay.
TEST(Schedule, WsdSDecaysInEveryPeriodAndReturnsToThePeak) {
  const ScheduleConfig s{.peak = 1,
                         .warmup_steps = 4,
                         .decay = Decay::wsd_s,
                         .final_fraction = 0,
                         .decay_fraction = 0.2,
                         .period_ends = {10, 20, 40}};
  const auto rate = [&](std::int64_t step) { return learning_rate(s, step, 40); };
  const std::vector<double> first{0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.5, 0};
  for (std::int64_t step = 1; step <= 10; ++step) {
    EXPECT_DOUBLE_EQ(rate(step), first[static_cast<std::size_t>(step - 1)]) << step;
  }
  for (std::int64_t step = 11; step <= 18; ++step) EXPECT_DOUBLE_EQ(rate(step), 1) << step;
  EXPECT_DOUBLE_EQ(rate(19), 0.5);
  EXPECT_DOUBLE_EQ(rate(20), 0);
  for (std::int64_t step = 21; step <= 36; ++step) EXPECT_DOUBLE_EQ(rate(step), 1) << step;
  for (std::int64_t left = 0; left < 4; ++left)
    EXPECT_DOUBLE_EQ(rate(40 - left), 0.25 * static_cast<double>(left));
  EXPECT_DOUBLE_EQ(rate(41), 0);
  for (std::int64_t step = 1; step <= 40; ++step) {
    EXPECT_EQ(train::ends_period(s, step), step == 10 || step == 20 || step == 40) << step;
  }
}

// Budgets that double: after the first, each period is half of all tokens so far (paper, appendix D;
// OLMo-core), so that its decay of a tenth is a twentieth of the whole.
TEST(Schedule, WsdSDecaysATwentiethOfEachDoubledBudget) {
  ScheduleConfig s{
      .peak = 1, .decay = Decay::wsd_s, .final_fraction = 0, .period_ends = {100, 200, 400, 800}};
  for (const std::int64_t end : {200, 400, 800}) {
    std::int64_t decaying = 0;
    for (auto step = end / 2 + 1; step <= end; ++step) decaying += learning_rate(s, step, 800) < 1 ? 1 : 0;
    EXPECT_EQ(decaying, end / 20);
  }
}

train::RunConfig warming_up() {
  train::RunConfig c;
  c.data.sequence_length = 10;
  c.batch_size = 8;
  c.micro_batch_size = 2;
  c.batch_warmup = {{3, 2}, {6, 4}};
  return c;
}

// Steps 1 to 9 take 2, 2, 4, 4, 4, 8, 8, 8, 8 sequences.
TEST(BatchWarmup, PositionsAreTheSumOfTheBatchesBefore) {
  const auto c = warming_up();
  const std::vector<std::int64_t> batches{2, 2, 4, 4, 4, 8, 8, 8, 8};
  std::int64_t before = 0;
  for (std::int64_t step = 1; step <= 9; ++step) {
    const auto batch = batches[static_cast<std::size_t>(step - 1)];
    EXPECT_EQ(train::instances_in(c, step), batch) << step;
    EXPECT_EQ(train::instances_before(c, step), before) << step;
    before += batch;
    EXPECT_EQ(train::tokens_through(c, step), 10 * before) << step;
    EXPECT_EQ(train::steps_for_tokens(c, 10 * before), step);
    EXPECT_EQ(train::steps_for_tokens(c, 10 * before - 9), step);
    EXPECT_EQ(train::steps_for_tokens(c, 10 * before + 1), step + 1);
  }
  EXPECT_EQ(train::steps_for_tokens(c, 0), 0);
  EXPECT_EQ(train::tokens_through(c, 0), 0);
}

TEST(BatchWarmup, NoneIsAClosedForm) {
  train::RunConfig c;
  c.data.sequence_length = 8192;
  c.batch_size = 512;
  EXPECT_EQ(train::instances_before(c, 1), 0);
  EXPECT_EQ(train::instances_before(c, 1'414'079), 512LL * 1'414'078);
  EXPECT_EQ(train::steps_for_tokens(c, 100'000'000'000), 23'842);  // paper, appendix A
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

train::RunConfig recipe_with(const std::vector<std::string>& overrides) {
  const TemporaryFolder folder;
  return train::read_run_config(put(folder / "recipe.toml", kRecipe), overrides);
}

TEST(Recipe, WarmupInStepsTokensOrFraction) {
  const auto warmup = [](std::vector<std::string> overrides) {
    overrides.insert(overrides.end(), {"train.steps=200", "train.batch_size=4", "data.sequence_length=16"});
    return recipe_with(overrides).schedule.warmup_steps;
  };
  EXPECT_EQ(warmup({}), 0);
  EXPECT_EQ(warmup({"schedule.warmup_steps=0"}), 0);
  EXPECT_EQ(warmup({"schedule.warmup_steps=200"}), 200);
  EXPECT_EQ(warmup({"schedule.warmup_tokens=640"}), 10);
  EXPECT_EQ(warmup({"schedule.warmup_tokens=641"}), 11);
  EXPECT_EQ(warmup({"schedule.warmup_fraction=0.03"}), 6);
  // Two steps of 2 sequences, then 4: 64 + 9 · 64 tokens.
  EXPECT_EQ(warmup({"schedule.warmup_tokens=640", "train.micro_batch_size=2", "train.batch_warmup=[[3,2]]"}),
            11);
}

TEST(Recipe, TokensInsteadOfSteps) {
  const TemporaryFolder folder;
  std::string text(kRecipe);
  text.replace(text.find("steps = 10"), 10, "tokens = 1000");
  const auto path = put(folder / "recipe.toml", text);
  EXPECT_EQ(train::read_run_config(path, {"data.sequence_length=10"}).steps, 13);  // of 80
  EXPECT_EQ(train::read_run_config(path, {"data.sequence_length=10", "train.tokens=1040"}).steps, 13);
  EXPECT_HOLDS(message_of([&] { train::read_run_config(path, {"train.steps=3"}); }),
               "'train.tokens' and 'steps' are both given");
}

TEST(Recipe, WsdPeriodsAndSkippedSteps) {
  const auto c = recipe_with({"schedule.decay=wsd-s", "schedule.period_end_tokens=[100,201,400]",
                              "data.sequence_length=5", "train.batch_size=2", "train.steps=40",
                              "train.skip_steps=[[3,3],[38,39]]"});
  EXPECT_EQ(c.schedule.period_ends, (std::vector<std::int64_t>{10, 21, 40}));
  EXPECT_EQ(c.schedule.final_fraction, 0);
  for (std::int64_t step = 1; step <= 40; ++step) {
    EXPECT_EQ(train::skips(c, step), step == 3 || step == 38 || step == 39) << step;
  }
  EXPECT_EQ(recipe_with({"schedule.decay=wsd", "train.steps=55"}).schedule.decay_steps, 6);
  EXPECT_EQ(recipe_with({"schedule.decay=wsd", "schedule.decay_steps=4"}).schedule.decay_steps, 4);
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
  EXPECT_HOLDS(message_with({"schedule.warmup_steps=1", "schedule.warmup_fraction=0.1"}), "warmup_fraction");
  EXPECT_HOLDS(message_with({"schedule.warmup_tokens=1000000"}), "schedule.warmup_tokens");
  EXPECT_HOLDS(message_with({"schedule.decay=wsd", "schedule.decay_steps=8", "schedule.warmup_steps=3"}),
               "8 steps");
  EXPECT_HOLDS(message_with({"schedule.decay=wsd-s"}), "period_end_steps");
  EXPECT_HOLDS(message_with({"schedule.decay=wsd-s", "schedule.period_end_steps=[5,9]"}), "last step 10");
  EXPECT_HOLDS(message_with({"schedule.decay=wsd-s", "schedule.period_end_steps=[5,5,10]"}),
               "at least a step");
  EXPECT_HOLDS(message_with({"schedule.period_end_steps=[5,10]"}), "does not go with");
  EXPECT_HOLDS(message_with({"schedule.decay_fraction=0.5"}), "does not go with");
  EXPECT_HOLDS(message_with({"train.batch_warmup=[[4,3]]", "train.micro_batch_size=2"}), "batch of 3");
  EXPECT_HOLDS(message_with({"train.batch_warmup=[[4,4],[3,8]]", "train.micro_batch_size=2"}), "3 follows 4");
  EXPECT_HOLDS(message_with({"train.batch_warmup=[[4,16]]"}), "up to batch_size 8");
  EXPECT_HOLDS(message_with({"train.batch_warmup=[4]"}), "batch_warmup[0]");
  EXPECT_HOLDS(message_with({"train.skip_steps=[[5,4]]"}), "5 to 4");
  EXPECT_HOLDS(message_with({"train.steps=1000000000000"}), "2^50 tokens");
}

}  // namespace
}  // namespace braid::test
