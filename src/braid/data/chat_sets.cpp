#include "braid/data/chat_sets.h"

#include <nlohmann/json.hpp>
#include <set>

#include "braid/data/chat_exercises.h"
#include "braid/data/documents.h"

namespace braid::data {
namespace {

using Json = nlohmann::ordered_json;
using Words = std::vector<std::string>;

constexpr std::size_t kLeastWords = 64;
constexpr std::size_t kTaskShare = 5;  // every fifth document is for tasks alone
constexpr int kExercisesOfADocument = 12;

struct Sources {
  std::vector<Words> train, tasks;
};

Sources read_sources(const std::vector<fs::path>& inputs) {
  Sources sources;
  std::size_t kept = 0;
  for (const auto& input : inputs) {
    for_each_document(input, [&](Document&& document) {
      auto words = plain_words(document.text);
      if (words.size() < kLeastWords) return true;
      (kept++ % kTaskShare == 0 ? sources.tasks : sources.train).push_back(std::move(words));
      return true;
    });
  }
  require(!sources.train.empty() && !sources.tasks.empty(),
          "{}: {} documents have {} plain words or more, at least 2 are needed", inputs.front().string(),
          kept, kLeastWords);
  return sources;
}

// Draws exercises whose questions are not in `taken`, which they then are.
class Questions {
 public:
  Questions(const std::vector<Words>& documents, std::uint64_t seed, std::uint64_t stream)
      : documents_(documents), random_(seed, stream) {}

  ExerciseItem draw() { return make_exercise(documents_[random_.below(documents_.size())], random_); }
  ExerciseItem draw_new(std::set<std::string>& taken) {
    for (int attempt = 0; attempt < 1000; ++attempt) {
      auto item = draw();
      if (taken.insert(item.question).second) return item;
    }
    fail("chat sets: the documents have too few words for so many different questions: ask for fewer");
  }

 private:
  const std::vector<Words>& documents_;
  Random random_;
};

Json user(const std::string& question) { return {{"role", "user"}, {"content", question}}; }

// Percent of the conversations about an exercise that give the answer alone.
constexpr std::uint64_t kAlone[kExercises] = {100, 75, 25, 40, 50};

std::string spoken(const ExerciseItem& item, Random& random) {
  const bool alone = random.below(100) < kAlone[static_cast<std::size_t>(item.exercise)];
  return alone ? item.answer : in_a_sentence(item);
}

class LinesFile {
 public:
  explicit LinesFile(const fs::path& path) : file_(path) {}
  void add(const Json& line) { file_.write(line.dump() + "\n"); }
  void commit() { file_.commit(); }

 private:
  io::AtomicFile file_;
};

}  // namespace

void make_chat_sets(const std::vector<fs::path>& inputs, const fs::path& folder, const ChatSetOptions& o) {
  require(!inputs.empty(), "no documents to make chat sets from");
  const auto sources = read_sources(inputs);
  fs::create_directories(folder);
  LinesFile chat(folder / "chat.jsonl"), tasks(folder / "tasks.jsonl"),
      preferences(folder / "preferences.jsonl"), exercises(folder / "exercises.jsonl");
  std::set<std::string> asked;
  Questions held_out(sources.tasks, o.seed, 1), train(sources.train, o.seed, 2);
  Random habits(o.seed, 3);
  for (std::int64_t i = 0; i < o.tasks; ++i) {
    const auto item = held_out.draw_new(asked);
    tasks.add({{"task", name_of(item.exercise)},
               {"messages", Json::array({user(item.question)})},
               {"answer", item.answer}});
  }
  for (std::int64_t i = 0; i < o.conversations; ++i) {
    const auto item = train.draw_new(asked);
    chat.add({{"messages", Json::array({user(item.question),
                                        {{"role", "assistant"}, {"content", spoken(item, habits)}}})}});
  }
  for (std::int64_t i = 0; i < o.preferences; ++i) {
    const auto item = train.draw_new(asked);
    preferences.add({{"prompt", Json::array({user(item.question)})},
                     {"chosen", item.answer},
                     {"rejected", in_a_sentence(item)}});
  }
  for (std::int64_t i = 0; i < o.documents; ++i) {
    std::string text;
    for (int e = 0; e < kExercisesOfADocument; ++e) {
      const auto item = train.draw_new(asked);
      text += item.question + "\n" + item.answer + "\n";
    }
    exercises.add({{"text", text}});
  }
  for (auto* file : {&chat, &tasks, &preferences, &exercises}) file->commit();
}

}  // namespace braid::data
