// Tasks with one right answer each, scored by exact match of generations.
#pragma once
#include <string>
#include <vector>

#include "braid/infer/generation.h"
#include "braid/io/files.h"
#include "braid/text/chat.h"

namespace braid::eval {

struct TaskItem {
  std::string task;                         // name of the group that is counted together
  std::vector<text::ChatMessage> messages;  // empty: a plain prompt
  std::string prompt;                       // its text
  std::vector<text::TokenId> ids;           // and as the model sees it
  std::string answer;
  std::string stop;  // ends an answer: the chat format's <|im_end|>, or a line break after a plain prompt
};

// One JSON object {"prompt" or "messages", "answer", "task"} a line. Messages take the chat format, end
// before the assistant's turn, and hold, like their answer, none of its markers. Errors name file, line and
// field.
std::vector<TaskItem> read_tasks(const io::fs::path& path, const text::Tokenizer& tokenizer);

struct TaskScore {
  std::string task;
  std::int64_t examples = 0, correct = 0;
  double score() const { return static_cast<double>(correct) / static_cast<double>(examples); }
};

struct TaskResult {
  std::vector<TaskScore> tasks;      // in the order of their first items
  std::vector<std::string> answers;  // as generated, by item
  std::vector<bool> ended;           // by item, of score_tasks: whether the answer came to its stop
  TaskScore total;
};

// Compares answers, one an item. White space around an answer does not count; nothing else is forgiven.
TaskResult count_matches(const std::vector<TaskItem>& items, std::vector<std::string> answers);

struct TaskOptions {
  std::int64_t batch = 16;            // items at one time
  infer::SamplingOptions sampling{};  // greedy
};

// Lets the model answer all items. Items whose prompt leaves no room in the
// model's context are an error.
TaskResult score_tasks(const Backend& backend, const model::Model& model, const text::Tokenizer& tokenizer,
                       const std::vector<TaskItem>& items, const TaskOptions& options);

// Pairs for preference tuning, {"prompt", "chosen": the right answer, "rejected": the model's} a line as
// train's data.preferences reads them, of the items with messages that it answered wrongly. Left out are
// answers that did not come to their stop, are not UTF-8, or hold what the format keeps for itself.
std::vector<std::string> wrong_answer_pairs(const std::vector<TaskItem>& items, const TaskResult& result,
                                            const text::Tokenizer& tokenizer);

}  // namespace braid::eval
