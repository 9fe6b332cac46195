#include "braid/eval/tasks.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "braid/io/compressed.h"
#include "braid/text/utf8.h"

namespace braid::eval {
namespace {

constexpr std::string_view kTotal = "all";

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto first = text.find_first_not_of(kSpace);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

TaskItem parse_item(std::string_view line, const std::string& source, const text::Tokenizer& tokenizer) {
  const text::ChatFormat format(tokenizer);
  const auto json = io::parse_json(line, source);
  const io::Fields fields(json, source);
  fields.allow_only({"prompt", "messages", "answer", "task"});
  if (fields.has("prompt") == fields.has("messages")) {
    fields.reject("prompt", "or 'messages' must be given, and not both");
  }
  const bool chat = fields.has("messages");
  auto messages = chat ? format.read_messages(fields, "messages") : std::vector<text::ChatMessage>();
  if (chat && messages.back().role == text::Role::assistant) {
    fields.reject("messages", "ends with a message of the assistant, which the answer is to be");
  }
  TaskItem item{.task = fields.string("task"),
                .messages = {},
                .prompt = chat ? format.prompt(messages) : fields.string("prompt"),
                .ids = {},
                .answer = std::string(trimmed(fields.string("answer"))),
                .stop = chat ? std::string(text::kMessageEnd) : "\n"};
  if (item.task == kTotal) fields.reject("task", "is 'all', the name of their sum");
  if (item.answer.empty()) fields.reject("answer", "is empty");
  if (item.answer.find(item.stop) != item.answer.npos) {
    fields.reject("answer", chat ? fmt::format("holds {}, at which an answer ends", text::kMessageEnd)
                                 : "holds a line break, at which the answer to a plain prompt ends");
  }
  if (chat) format.require_plain(item.answer, source + ": field 'answer'");
  if (item.prompt.empty()) fields.reject("prompt", "is empty");
  item.ids = chat ? format.encode_prompt(messages) : tokenizer.encode(item.prompt);
  item.messages = std::move(messages);
  return item;
}

// Room for the longest answer and what ends it, so that a longer text shows as such.
std::int64_t tokens_needed(const text::Tokenizer& tokenizer, const std::vector<TaskItem>& items) {
  std::size_t most = 0;
  for (const auto& item : items) most = std::max(most, tokenizer.encode(item.answer + item.stop).size());
  return static_cast<std::int64_t>(most) + 1;
}

// Whether a sequence came to its item's stop, be it as text or as the model's end of text.
bool came_to_stop(const infer::Generation& sequence, const std::string& stop,
                  const text::Tokenizer& tokenizer) {
  if (sequence.finish == infer::FinishReason::stop_string) return true;
  if (sequence.finish != infer::FinishReason::end_of_text || sequence.tokens.empty()) return false;
  return tokenizer.decode(std::span(sequence.tokens).last(1)) == stop;
}

}  // namespace

std::vector<TaskItem> read_tasks(const io::fs::path& path, const text::Tokenizer& tokenizer) {
  std::vector<TaskItem> items;
  io::for_each_line(path, [&](std::string_view line, std::int64_t number) {
    if (!trimmed(line).empty()) {
      items.push_back(parse_item(line, fmt::format("{}:{}", path.string(), number), tokenizer));
    }
    return true;
  });
  require(!items.empty(), "{}: holds no task", path.string());
  return items;
}

TaskResult count_matches(const std::vector<TaskItem>& items, std::vector<std::string> answers) {
  require(answers.size() == items.size(), "tasks: {} answers to {} items", answers.size(), items.size());
  TaskResult result{
      .tasks = {}, .answers = std::move(answers), .ended = {}, .total = {.task = std::string(kTotal)}};
  for (std::size_t i = 0; i < items.size(); ++i) {
    auto found = std::ranges::find(result.tasks, items[i].task, &TaskScore::task);
    if (found == result.tasks.end()) found = result.tasks.insert(found, {.task = items[i].task});
    const bool right = trimmed(result.answers[i]) == trimmed(items[i].answer);
    for (auto* score : {&*found, &result.total}) {
      ++score->examples;
      score->correct += right;
    }
  }
  return result;
}

TaskResult score_tasks(const Backend& backend, const model::Model& model, const text::Tokenizer& tokenizer,
                       const std::vector<TaskItem>& items, const TaskOptions& o) {
  std::vector<std::string> answers(items.size());
  std::vector<bool> ended(items.size());
  std::map<std::string, std::vector<std::size_t>> by_stop;
  for (std::size_t i = 0; i < items.size(); ++i) by_stop[items[i].stop].push_back(i);
  const auto needed = tokens_needed(tokenizer, items);
  for (const auto& [stop, indices] : by_stop) {
    std::vector<std::vector<text::TokenId>> prompts;
    for (const auto i : indices) prompts.push_back(items[i].ids);
    const auto generated = infer::generate_from_ids(
        backend, model, tokenizer, prompts,
        {.max_new_tokens = needed, .batch = o.batch, .stop = {stop}, .sampling = o.sampling});
    for (std::size_t k = 0; k < indices.size(); ++k) {
      answers[indices[k]] = generated.sequences[k].text;
      ended[indices[k]] = came_to_stop(generated.sequences[k], stop, tokenizer);
    }
  }
  auto result = count_matches(items, std::move(answers));
  result.ended = std::move(ended);
  return result;
}

std::vector<std::string> wrong_answer_pairs(const std::vector<TaskItem>& items, const TaskResult& result,
                                            const text::Tokenizer& tokenizer) {
  require(result.answers.size() == items.size() && result.ended.size() == items.size(),
          "wrong answers: {} items, {} answers", items.size(), result.answers.size());
  const text::ChatFormat format(tokenizer);
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const auto rejected = trimmed(result.answers[i]);
    if (items[i].messages.empty() || !result.ended[i] || rejected == items[i].answer) continue;
    if (!format.is_plain(rejected) || text::valid_prefix(rejected) != rejected.size()) continue;
    nlohmann::ordered_json line;
    for (const auto& [role, content] : items[i].messages) {
      line["prompt"].push_back({{"role", text::name_of(role)}, {"content", content}});
    }
    line["chosen"] = items[i].answer;
    line["rejected"] = rejected;
    lines.push_back(line.dump());
  }
  return lines;
}

}  // namespace braid::eval
