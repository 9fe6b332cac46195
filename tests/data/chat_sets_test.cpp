#include "braid/data/chat_sets.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "braid/data/chat_exercises.h"
#include "tests/support/files.h"

namespace braid::test {
namespace {

using data::Exercise;
using Words = std::vector<std::string>;

Words split(const std::string& text) {
  Words words;
  std::istringstream in(text);
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

// The answer, worked out from the question alone.
std::string answer_to(const std::string& question) {
  const auto colon = question.find(": ");
  const auto kind = question.substr(0, colon);
  const auto rest = question.substr(colon + 2);
  const auto words = split(rest);
  if (kind == "copy") return rest;
  if (kind == "first word") return words.front();
  if (kind == "last word") return words.back();
  if (kind == "count words") return std::to_string(words.size());
  EXPECT_EQ(kind, "next letter");
  for (std::size_t period = 1; 2 * period <= words.size(); ++period) {  // each letter is shown twice at least
    if (std::equal(words.begin() + static_cast<std::ptrdiff_t>(period), words.end(), words.begin())) {
      return words[words.size() - period];
    }
  }
  ADD_FAILURE() << question;
  return "";
}

TEST(ChatExercises, AnswersAreRight) {
  const Words words = split("the quick brown fox jumps over the lazy dog again and again and again");
  Random random(1);
  std::set<Exercise> seen;
  std::set<std::size_t> sizes;
  for (int i = 0; i < 500; ++i) {
    const auto item = data::make_exercise(words, random);
    seen.insert(item.exercise);
    EXPECT_EQ(item.answer, answer_to(item.question)) << item.question;
    sizes.insert(split(item.question).size());
  }
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(data::kExercises));
  EXPECT_EQ(sizes.size(), 12u);  // "copy:" and 2 letters to "count words:" and 12 words
}

TEST(ChatExercises, PlainWordsAreLettersOnly) {
  EXPECT_EQ(data::plain_words("It's 3 o'clock, EVERYBODY: go-home naïve a incomprehensible"),
            (Words{"it", "clock", "go", "home", "na", "ve"}));
}

std::vector<nlohmann::json> lines_of(const std::filesystem::path& path) {
  std::istringstream in(io::read_file(path));
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

TEST(ChatSets, AreReproducibleAndTasksAreHeldOut) {
  const TemporaryFolder folder;
  std::string documents;
  Random random(3);
  for (int d = 0; d < 12; ++d) {
    std::string text;
    for (int w = 0; w < 90; ++w) {
      for (int c = 0; c < 5; ++c) text += static_cast<char>('a' + random.below(26));
      text += ' ';
    }
    documents += nlohmann::json{{"text", text}}.dump() + "\n";
  }
  const auto input = put(folder / "docs.jsonl", documents);
  const data::ChatSetOptions options{.conversations = 50, .tasks = 15, .preferences = 20, .documents = 3};
  data::make_chat_sets({input}, folder / "a", options);
  data::make_chat_sets({input}, folder / "b", options);
  std::set<std::string> questions;
  int alone = 0;
  for (const auto* name : {"chat.jsonl", "preferences.jsonl", "tasks.jsonl", "exercises.jsonl"}) {
    EXPECT_EQ(io::read_file(folder / "a" / name), io::read_file(folder / "b" / name)) << name;
  }
  for (const auto& line : lines_of(folder / "a/chat.jsonl")) {
    const std::string question = line["messages"][0]["content"];
    const std::string said = line["messages"][1]["content"], answer = answer_to(question);
    if (said == answer) {
      ++alone;
    } else {
      EXPECT_TRUE(said.size() > answer.size() && said.ends_with(" " + answer)) << said;
      EXPECT_FALSE(question.starts_with("copy")) << said;
    }
    questions.insert(question);
  }
  EXPECT_GT(alone, 15);  // 58 % are to be, of 50
  EXPECT_LT(alone, 43);
  for (const auto& line : lines_of(folder / "a/preferences.jsonl")) {
    const std::string question = line["prompt"][0]["content"], chosen = line["chosen"];
    EXPECT_EQ(chosen, answer_to(question));
    EXPECT_TRUE(std::string(line["rejected"]).ends_with(" " + chosen)) << line["rejected"];
    questions.insert(question);
  }
  EXPECT_EQ(questions.size(), 70u);
  const auto tasks = lines_of(folder / "a/tasks.jsonl");
  EXPECT_EQ(tasks.size(), 15u);
  for (const auto& line : tasks) {
    const std::string question = line["messages"][0]["content"];
    EXPECT_EQ(line["answer"], answer_to(question));
    EXPECT_FALSE(questions.contains(question));
  }
  EXPECT_EQ(lines_of(folder / "a/exercises.jsonl").size(), 3u);
  const auto few = put(folder / "few.jsonl", "{\"text\": \"too short\"}\n");
  EXPECT_HOLDS(message_of([&] { data::make_chat_sets({few}, folder / "c", options); }), "plain words");
}

}  // namespace
}  // namespace braid::test
