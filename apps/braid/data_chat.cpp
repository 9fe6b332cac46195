#include "braid/data/chat_build.h"
#include "braid/data/chat_sets.h"
#include "command.h"

namespace braid::app {
namespace {

struct BuildOptions {
  std::vector<std::string> inputs;
  std::string tokenizer = "byte", output;
  data::ChatBuildOptions build;
};

void build(const BuildOptions& o) {
  const auto tokenizer = text::load_tokenizer(o.tokenizer);
  const auto built =
      data::build_chat_files({o.inputs.begin(), o.inputs.end()}, *tokenizer, o.output, o.build);
  const auto show = [](const data::fs::path& path, const data::TokenFileInfo& info, std::int64_t targets) {
    fmt::print("{}: {} conversations, {} tokens, {} of them targets\n", path.string(), info.documents,
               info.tokens, targets);
  };
  show(built.train, built.train_info, built.train_targets);
  if (!built.validation.empty()) show(built.validation, built.validation_info, built.validation_targets);
}

struct SetOptions {
  std::vector<std::string> inputs;
  std::string output;
  data::ChatSetOptions sets;
};

void make_sets(const SetOptions& o) {
  data::make_chat_sets({o.inputs.begin(), o.inputs.end()}, o.output, o.sets);
  fmt::print("{}: {} conversations, {} preferences, {} tasks, {} documents of exercises\n", o.output,
             o.sets.conversations, o.sets.preferences, o.sets.tasks, o.sets.documents);
}

}  // namespace

void add_chat_data(CLI::App& data) {
  auto* chat = data.add_subcommand("build-chat", "tokenise conversations into token files with label masks");
  auto b = std::make_shared<BuildOptions>();
  chat->add_option("inputs", b->inputs,
                   "files (.jsonl, also .gz or .zst) of {\"messages\": …} lines, or folders")
      ->required();
  chat->add_option("--tokenizer", b->tokenizer, "byte, tokenizer.json or a model directory")
      ->capture_default_str();
  chat->add_option("--output", b->output, "folder for train.u16 (or .u32), train.mask and train.json")
      ->required();
  chat->add_option("--validation-fraction", b->build.validation_fraction, "share of the conversations")
      ->check(CLI::Range(0.0, 0.9))
      ->capture_default_str();
  chat->add_option("--seed", b->build.seed, "chooses the validation conversations")->capture_default_str();
  chat->callback([b] { build(*b); });

  auto* sets = data.add_subcommand(
      "make-chat-sets", "conversations, preferences and scored tasks by rule, for small experiments");
  auto s = std::make_shared<SetOptions>();
  sets->add_option("inputs", s->inputs, "documents (.jsonl, .txt, also .gz or .zst) or folders")->required();
  sets->add_option("--output", s->output, "folder for the .jsonl files")->required();
  const auto count = CLI::Range(std::int64_t{1}, std::int64_t{1} << 30);
  sets->add_option("--conversations", s->sets.conversations)->check(count)->capture_default_str();
  sets->add_option("--tasks", s->sets.tasks, "scored questions, of documents of their own")
      ->check(count)
      ->capture_default_str();
  sets->add_option("--preferences", s->sets.preferences, "pairs of a short and a wordy right answer")
      ->check(count)
      ->capture_default_str();
  sets->add_option("--documents", s->sets.documents, "texts of exercises")
      ->check(count)
      ->capture_default_str();
  sets->add_option("--seed", s->sets.seed)->capture_default_str();
  sets->callback([s] { make_sets(*s); });
}

}  // namespace braid::app
