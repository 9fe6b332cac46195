#include "braid/data/build_token_files.h"
#include "command.h"

namespace braid::app {
namespace {

struct Options {
  std::vector<std::string> inputs;
  std::string tokenizer = "byte", output;
  double validation_fraction = 0.01;
  std::uint64_t seed = 0;
};

void build(const Options& o) {
  const auto tokenizer = text::load_tokenizer(o.tokenizer);
  const auto progress = [](const data::BuildProgress& p) {
    fmt::print(stderr, "{} documents, {:.1f} MB, {:.1f} MB/s\n", p.documents,
               static_cast<double>(p.text_bytes) / 1e6, p.bytes_per_second() / 1e6);
  };
  const auto built = data::build_token_files(
      {o.inputs.begin(), o.inputs.end()}, *tokenizer, o.output,
      {.validation_fraction = o.validation_fraction, .seed = o.seed, .progress = progress});
  const auto show = [](const data::fs::path& path, const data::TokenFileInfo& info) {
    fmt::print("{}: {} documents, {} tokens, {} bytes of text\n", path.string(), info.documents, info.tokens,
               info.text_bytes);
  };
  show(built.train, built.train_info);
  if (!built.validation.empty()) show(built.validation, built.validation_info);
}

}  // namespace

void add_data(CLI::App& app) {
  auto* command = app.add_subcommand("data", "documents and token files");
  command->require_subcommand(1);
  auto* build_command = command->add_subcommand("build", "tokenise documents into token files");
  auto o = std::make_shared<Options>();
  build_command->add_option("inputs", o->inputs, "files (.jsonl, .txt, each also .gz or .zst) or folders")
      ->required();
  build_command->add_option("--tokenizer", o->tokenizer, "byte, tokenizer.json or a model directory")
      ->capture_default_str();
  build_command->add_option("--output", o->output, "folder for train.u16 and validation.u16 (or .u32)")
      ->required();
  build_command->add_option("--validation-fraction", o->validation_fraction, "share of the documents")
      ->check(CLI::Range(0.0, 0.9))
      ->capture_default_str();
  build_command->add_option("--seed", o->seed, "chooses the validation documents")->capture_default_str();
  build_command->callback([o] { build(*o); });
  add_chat_data(*command);
}

}  // namespace braid::app
