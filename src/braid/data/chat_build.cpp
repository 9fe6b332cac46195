#include "braid/data/chat_build.h"

#include <algorithm>
#include <optional>

#include "braid/data/build_token_files.h"
#include "braid/data/documents.h"
#include "braid/io/compressed.h"
#include "braid/text/chat.h"

namespace braid::data {
namespace {

// Conversations as documents with labels, and how many of their tokens are targets.
class ChatWriter {
 public:
  ChatWriter(const fs::path& path, const Vocabulary& vocabulary)
      : end_of_text_(vocabulary.end_of_text), tokens_(path, vocabulary) {}

  void append(text::ChatTokens chat, std::int64_t text_bytes) {
    targets_ += std::ranges::count(chat.targets, 1);
    chat.ids.push_back(end_of_text_);
    chat.targets.push_back(0);
    tokens_.append_labelled(chat.ids, chat.targets, text_bytes);
  }
  bool empty() const { return tokens_.info().tokens == 0; }
  std::int64_t targets() const { return targets_; }
  TokenFileInfo commit(nlohmann::json made) {
    made["targets"] = targets_;
    return tokens_.commit(std::move(made));
  }

 private:
  TokenId end_of_text_;
  TokenFileWriter tokens_;
  std::int64_t targets_ = 0;
};

struct Writers {
  ChatWriter train;
  std::optional<ChatWriter> validation;
};

void add_conversation(Writers& writers, std::string_view line, const std::string& source,
                      const text::ChatFormat& format, const ChatBuildOptions& options) {
  const auto json = io::parse_json(line, source);
  const io::Fields fields(json, source);
  const auto messages = format.read_messages(fields, "messages");
  std::int64_t bytes = 0;
  bool answered = false;
  for (const auto& [role, content] : messages) {
    answered |= role == text::Role::assistant;
    bytes += static_cast<std::int64_t>(content.size());
  }
  if (!answered) fields.reject("messages", "has no message of the assistant, so there is nothing to learn");
  const bool held_out =
      writers.validation && in_validation(json.dump(), options.validation_fraction, options.seed);
  (held_out ? *writers.validation : writers.train).append(format.encode(messages), bytes);
}

std::vector<fs::path> chat_files(const std::vector<fs::path>& inputs) {
  std::vector<fs::path> files;
  for (const auto& input : inputs) {
    for (const auto& file : document_files(input)) {
      require(document_ending(file).starts_with(".jsonl"), "{}: conversations are read from .jsonl files",
              file.string());
      files.push_back(file);
    }
  }
  return files;
}

}  // namespace

ChatTokenFiles build_chat_files(const std::vector<fs::path>& inputs, const text::Tokenizer& tokenizer,
                                const fs::path& folder, const ChatBuildOptions& options) {
  require(!inputs.empty(), "no input files or folders with conversations");
  require(options.validation_fraction >= 0 && options.validation_fraction < 1,
          "the validation fraction is {}, expected at least 0 and below 1", options.validation_fraction);
  const auto files = chat_files(inputs);
  const Vocabulary vocabulary = vocabulary_of(tokenizer);
  const text::ChatFormat format(tokenizer);
  io::fs::create_directories(folder);

  ChatTokenFiles built;
  built.train = folder / token_file_name("train", vocabulary.size);
  Writers writers{ChatWriter(built.train, vocabulary), std::nullopt};
  if (options.validation_fraction > 0) {
    built.validation = folder / token_file_name("validation", vocabulary.size);
    writers.validation.emplace(built.validation, vocabulary);
  }
  auto sources = nlohmann::json::array();
  for (const auto& file : files) {
    sources.push_back(file.filename().string());
    io::for_each_line(file, [&](std::string_view line, std::int64_t number) {
      if (line.find_first_not_of(" \t\r") != line.npos) {
        add_conversation(writers, line, fmt::format("{}:{}", file.string(), number), format, options);
      }
      return true;
    });
  }
  require(!writers.train.empty(), "{}: no conversation to train on, nor in the other inputs",
          files.front().string());
  require(!writers.validation || !writers.validation->empty(),
          "no conversation falls into the validation split with fraction {} and seed {}",
          options.validation_fraction, options.seed);
  const nlohmann::json made{{"kind", "chat"}, {"format", "chatml"}, {"inputs", sources}};
  built.train_targets = writers.train.targets();
  built.train_info = writers.train.commit(made);
  if (writers.validation) {
    built.validation_targets = writers.validation->targets();
    built.validation_info = writers.validation->commit(made);
  }
  return built;
}

}  // namespace braid::data
