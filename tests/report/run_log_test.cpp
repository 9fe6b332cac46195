// Reading run folders: repeated steps, lines cut off, bad lines, every file of a run.
#include "braid/report/run_log.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/files.h"

namespace braid::test {
namespace {

using report::read_run;

TEST(RunLog, ReadsStepsAndValidationBySource) {
  const TemporaryFolder folder;
  put(folder / "metrics.jsonl",
      "{\"step\": 0, \"tokens\": 0, \"validation_loss\": 5, \"validation_bits_per_byte\": 7}\n"
      "{\"step\": 1, \"tokens\": 64, \"loss\": 4.5, \"gradient_norm\": 2, \"skipped\": 0, \"novel\": 9}\n"
      "{\"step\": 1, \"tokens\": 64, \"source\": \"wiki\", \"validation_loss\": 4}\n"
      "{\"step\": 2, \"tokens\": 128, \"loss\": null, \"skipped\": true, \"note\": \"text\"}\n");
  const auto run = read_run(folder.path());
  EXPECT_EQ(run.steps.step, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(run.steps.tokens, (std::vector<double>{64, 128}));
  ASSERT_NE(run.steps.find("loss"), nullptr);
  EXPECT_EQ(run.steps.find("loss")->front(), 4.5);
  EXPECT_TRUE(std::isnan(run.steps.find("loss")->back()));
  EXPECT_EQ(*run.steps.find("skipped"), (std::vector<double>{0, 1}));
  EXPECT_EQ(run.steps.find("novel")->front(), 9);
  EXPECT_EQ(run.steps.find("note"), nullptr);
  ASSERT_EQ(run.validation.size(), 2u);
  EXPECT_EQ(run.validation.at("").find("validation_bits_per_byte")->front(), 7);
  EXPECT_EQ(run.validation.at("wiki").find("validation_loss")->front(), 4);
  EXPECT_TRUE(std::isnan(run.seconds));
  EXPECT_FALSE(run.parameters);
  EXPECT_TRUE(run.notices.empty());
}

TEST(RunLog, TheLaterLineOfAStepCounts) {
  const TemporaryFolder folder;
  put(folder / "metrics.jsonl",
      "{\"step\":1,\"tokens\":10,\"loss\":3}\n{\"step\":2,\"tokens\":20,\"loss\":2}\n"
      "{\"step\":3,\"tokens\":30,\"loss\":1}\n{\"step\":2,\"tokens\":21,\"loss\":2.5}\n");
  const auto run = read_run(folder.path());
  EXPECT_EQ(run.steps.step, (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(run.steps.tokens, (std::vector<double>{10, 21, 30}));
  EXPECT_EQ(*run.steps.find("loss"), (std::vector<double>{3, 2.5, 1}));
}

TEST(RunLog, ALastLineCutOffIsLeftOutAndAnyOtherBadLineIsNamed) {
  const TemporaryFolder folder;
  const std::string good = "{\"step\":1,\"loss\":3}\n";
  put(folder / "metrics.jsonl", good + "{\"step\":2,\"lo");
  const auto run = read_run(folder.path());
  EXPECT_EQ(run.steps.rows(), 1u);
  ASSERT_EQ(run.notices.size(), 1u);
  EXPECT_HOLDS(run.notices[0], "metrics.jsonl: line 2");
  // Not cut off: the line is whole, or others follow.
  for (const std::string bad :
       {"{\"step\":2,\"lo\n", "{\"step\":2,\"lo\n{\"step\":3}\n", "[1]\n", "{\"loss\":1}\n",
        "{\"step\":-1}\n", "{\"step\":2,\"loss\":\"low\"}\n", "{\"step\":2,\"tokens\":\"many\"}\n",
        "{\"step\":2,\"source\":7,\"validation_loss\":1}\n", "{\"step\":2,\"step\":3}\n"}) {
    put(folder / "metrics.jsonl", good + bad);
    EXPECT_HOLDS(message_of([&] { read_run(folder.path()); }), "metrics.jsonl:2") << bad;
  }
  std::filesystem::remove(folder / "metrics.jsonl");
  EXPECT_HOLDS(message_of([&] { read_run(folder.path()); }), "metrics.jsonl: no such file");
}

TEST(RunLog, TimingFollowsTheMetrics) {
  const TemporaryFolder folder;
  put(folder / "metrics.jsonl",
      "{\"step\":1,\"tokens\":100,\"loss\":3}\n{\"step\":2,\"tokens\":200,\"loss\":2}\n"
      "{\"step\":3,\"tokens\":300,\"loss\":1}\n");
  // Killed after step 2, resumed after step 1, and a line of a step that was then cut from the metrics.
  put(folder / "timing.jsonl",
      "{\"step\":1,\"tokens_per_second\":10}\n{\"step\":2,\"tokens_per_second\":20}\n"
      "{\"step\":2,\"tokens_per_second\":50}\n{\"step\":3,\"tokens_per_second\":40}\n"
      "{\"step\":9,\"tokens_per_second\"");
  const auto run = read_run(folder.path());
  EXPECT_EQ(run.timing.step, (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(run.timing.tokens, (std::vector<double>{100, 200, 300}));
  EXPECT_EQ(*run.timing.find("tokens_per_second"), (std::vector<double>{10, 50, 40}));
  EXPECT_DOUBLE_EQ(run.seconds, 200.0 / 20 + 200.0 / 40);
}

TEST(RunLog, ReadsSamplesScoresAndRecipe) {
  const TemporaryFolder folder;
  put(folder / "metrics.jsonl", "");
  put(folder / "samples.jsonl",
      "{\"step\":2,\"prompt\":\"p\",\"text\":\"two\"}\n{\"step\":1,\"prompt\":\"p\",\"text\":\"one\"}\n");
  put(folder / "scores.jsonl",
      "{\"step\":1,\"task\":\"copy\",\"score\":0.25,\"examples\":8}\n"
      "{\"step\":1,\"task\":\"copy\",\"score\":0.5,\"examples\":8}\n");
  put(folder / "recipe.toml",
      "seed = 1\n[train]\nsteps = 5\nlist = [1, 2]\n[[data.mix]]\nname = 'a'\n[[data.mix]]\nname = \"b\"\n");
  const auto run = read_run(folder.path());
  ASSERT_EQ(run.samples.size(), 2u);
  EXPECT_EQ(run.samples[0].text, "one");
  ASSERT_EQ(run.scores.size(), 1u);
  EXPECT_EQ(run.scores[0].score, 0.5);
  std::string all;
  for (const auto& [key, value] : run.recipe) all += key + "=" + value + ";";
  EXPECT_EQ(all, "data.mix[0].name='a';data.mix[1].name='b';seed=1;train.list=[ 1, 2 ];train.steps=5;");
  put(folder / "scores.jsonl", "{\"step\":1,\"task\":\"copy\"}\n");
  EXPECT_HOLDS(message_of([&] { read_run(folder.path()); }), "scores.jsonl:1");
}

}  // namespace
}  // namespace braid::test
