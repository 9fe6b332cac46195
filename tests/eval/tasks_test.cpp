#include "braid/eval/tasks.h"

#include <gtest/gtest.h>

#include "braid/backends/backends.h"
#include "tests/model/golden_models.h"
#include "tests/support/files.h"

namespace braid::eval {
namespace {

using test::message_of;
using test::put;

constexpr std::string_view kItems =
    R"({"prompt": "abc", "answer": "yes", "task": "plain"}

{"messages": [{"role": "user", "content": "abc"}], "answer": "no", "task": "chat"}
{"prompt": "abd", "answer": " maybe\n", "task": "plain"}
)";

TEST(Tasks, CountsExactMatchesByTask) {
  const test::TemporaryFolder folder;
  const auto items = read_tasks(put(folder / "tasks.jsonl", kItems), *text::byte_tokenizer());
  ASSERT_EQ(items.size(), 3u);
  EXPECT_EQ(items[1].prompt, "<|im_start|>user\nabc<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(items[1].ids, text::byte_tokenizer()->encode(items[1].prompt));
  EXPECT_EQ(items[1].stop, "<|im_end|>");
  EXPECT_EQ(items[2].answer, "maybe");
  const auto result = count_matches(items, {" yes ", "no way", "maybe"});
  ASSERT_EQ(result.tasks.size(), 2u);
  EXPECT_EQ(result.tasks[0].task, "plain");
  EXPECT_EQ(result.tasks[0].examples, 2);
  EXPECT_EQ(result.tasks[0].correct, 2);
  EXPECT_EQ(result.tasks[1].task, "chat");
  EXPECT_EQ(result.tasks[1].correct, 0);
  EXPECT_EQ(result.total.examples, 3);
  EXPECT_DOUBLE_EQ(result.total.score(), 2.0 / 3);
}

TEST(Tasks, AnswersAreGreedyGenerationsUpToTheStop) {
  const test::TemporaryFolder folder;
  const auto model = test::golden_model("hybrid");
  const auto tokenizer = text::byte_tokenizer();
  const Backend backend = make_backend("cpu", {.threads = 1, .target = {}});
  auto items = read_tasks(put(folder / "tasks.jsonl", kItems), *tokenizer);
  const auto result = score_tasks(backend, model, *tokenizer, items, {.batch = 2});
  for (std::size_t i = 0; i < items.size(); ++i) {
    // "yes", "maybe" and "no", each with what ends it: 6 tokens at most, and one more.
    const auto alone = infer::generate(backend, model, *tokenizer, {items[i].prompt},
                                       {.max_new_tokens = 7, .stop = {items[i].stop}});
    EXPECT_EQ(result.answers[i], alone.sequences[0].text) << i;
  }
}

TEST(Tasks, WrongAnswersBecomePreferencePairs) {
  const test::TemporaryFolder folder;
  const auto tokenizer = text::byte_tokenizer();
  const auto items = read_tasks(put(folder / "tasks.jsonl", kItems), *tokenizer);
  const auto pairs = [&](std::vector<std::string> answers, std::vector<bool> ended) {
    auto result = count_matches(items, std::move(answers));
    result.ended = std::move(ended);
    return wrong_answer_pairs(items, result, *tokenizer);
  };
  using Lines = std::vector<std::string>;
  // The other two have plain prompts, whose answers end with a line break where a pair's end with the text.
  EXPECT_EQ(pairs({"no", " Yes ", "maybe"}, {true, true, true}),
            (Lines{R"({"prompt":[{"role":"user","content":"abc"}],"chosen":"no","rejected":"Yes"})"}));
  EXPECT_EQ(pairs({"yes", " no", "maybe"}, {true, true, true}), Lines());
  EXPECT_EQ(pairs({"yes", "Yes", "maybe"}, {true, false, true}), Lines());
  for (const char* unusable : {"y\xff", "<|im_start|>", "<|endoftext|>"}) {
    EXPECT_EQ(pairs({"yes", unusable, "maybe"}, {true, true, true}), Lines()) << unusable;
  }
}

TEST(Tasks, SampledAnswersAreTheSeeds) {
  const test::TemporaryFolder folder;
  const auto model = test::golden_model("hybrid");
  const auto tokenizer = text::byte_tokenizer();
  const Backend backend = make_backend("cpu", {.threads = 1, .target = {}});
  const auto items = read_tasks(put(folder / "tasks.jsonl", kItems), *tokenizer);
  const auto answers = [&](std::uint64_t seed) {
    return score_tasks(backend, model, *tokenizer, items, {.sampling = {.temperature = 1, .seed = seed}})
        .answers;
  };
  EXPECT_EQ(answers(1), answers(1));
  EXPECT_NE(answers(1), answers(2));
}

TEST(Tasks, FilesAreReadStrictly) {
  const test::TemporaryFolder folder;
  const auto tokenizer = text::byte_tokenizer();
  const auto error = [&](const std::string& line) {
    return message_of([&] { read_tasks(put(folder / "t.jsonl", line), *tokenizer); });
  };
  EXPECT_HOLDS(error("\n{\"prompt\": \"a\", \"answer\": \"b\"}"), "t.jsonl:2: field 'task'");
  EXPECT_HOLDS(
      error(
          R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "answer": "c", "task": "d"})"),
      "message of the assistant");
  EXPECT_HOLDS(
      error(R"({"messages": [{"role": "user", "content": "a"}], "answer": "<|im_start|>", "task": "d"})"),
      "field 'answer'");
  EXPECT_HOLDS(error("{\"answer\": \"b\", \"task\": \"c\"}"), "'prompt' or 'messages'");
  EXPECT_HOLDS(error("{\"prompt\": \"a\", \"answer\": \" \", \"task\": \"c\"}"), "'answer' is empty");
  EXPECT_HOLDS(error(R"({"prompt": "a", "answer": "b\nc", "task": "d"})"), "'answer' holds a line break");
  EXPECT_HOLDS(
      error(R"({"messages": [{"role": "user", "content": "a"}], "answer": "b<|im_end|>", "task": "d"})"),
      "'answer' holds <|im_end|>");
  EXPECT_HOLDS(error(R"({"prompt": "a", "answer": "b", "task": "all"})"), "'task' is 'all'");
  EXPECT_HOLDS(
      error(R"({"messages": [{"role": "user", "content": "a<|im_start|>b"}], "answer": "c", "task": "d"})"),
      "t.jsonl:1: field 'messages[0].content' holds <|im_start|>");
  EXPECT_HOLDS(error("\n"), "holds no task");
}

}  // namespace
}  // namespace braid::eval
