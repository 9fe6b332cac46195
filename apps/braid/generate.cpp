#include <cstdio>
#include <nlohmann/json.hpp>

#include "braid/data/documents.h"
#include "braid/infer/generation.h"
#include "braid/io/compressed.h"
#include "braid/io/json.h"
#include "braid/text/chat.h"
#include "command.h"
#include "encodings.h"

namespace braid::app {
namespace {

struct Options {
  std::string model, prompt, prompts, dtype = "f32", samples;
  std::int64_t step = 0;
  bool has_prompt = false, chat = false, json = false, stream = true, ignore_end_of_text = false;
  infer::GenerationOptions generation;
  BackendOptions backend;
};

struct Prompt {
  std::string text;
  std::vector<text::TokenId> ids;  // as the model sees it
};

class Prompts {
 public:
  Prompts(const text::Tokenizer& tokenizer, bool chat)
      : tokenizer_(tokenizer), format_(tokenizer), chat_(chat) {}

  // A text to continue; with `chat` what a user says.
  void add(const std::string& text, const std::string& source) {
    if (!chat_) return add_plain(text);
    format_.require_plain(text, source);
    add_messages({{text::Role::user, text}});
  }
  // {"prompt"}, with `chat` also {"messages"}.
  void add_line(std::string_view line, const std::string& source) {
    const auto json = io::parse_json(line, source);
    const io::Fields fields(json, source);
    if (chat_ && fields.has("messages")) {
      if (fields.has("prompt")) fields.reject("prompt", "is given beside 'messages'");
      return add_messages(format_.read_messages(fields, "messages"));
    }
    if (fields.has("messages")) fields.reject("messages", "needs --chat");
    add(fields.string("prompt"), fmt::format("{}: field 'prompt'", source));
  }
  const std::vector<Prompt>& all() const { return all_; }

 private:
  void add_plain(const std::string& text) { all_.push_back({text, tokenizer_.encode(text)}); }
  void add_messages(const std::vector<text::ChatMessage>& messages) {
    all_.push_back({format_.prompt(messages), format_.encode_prompt(messages)});
  }

  const text::Tokenizer& tokenizer_;
  text::ChatFormat format_;
  bool chat_;
  std::vector<Prompt> all_{};
};

// One prompt a line: its text, or in .jsonl files an object.
void read_prompts(Prompts& prompts, const std::string& path) {
  const std::string_view name = path;
  const bool json = name.ends_with(".jsonl") || name.ends_with(".jsonl.gz") || name.ends_with(".jsonl.zst");
  io::for_each_line(path, [&](std::string_view line, std::int64_t number) {
    const auto source = fmt::format("{}:{}", path, number);
    if (!json) {
      if (line.ends_with('\r')) line.remove_suffix(1);
      prompts.add(std::string(line), source);
    } else if (!line.empty()) {
      prompts.add_line(line, source);
    }
    return true;
  });
  require(!prompts.all().empty(), "{}: holds no prompt", path);
}

void write(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

nlohmann::ordered_json to_json(const infer::Generation& g, const std::string& prompt) {
  return {{"prompt", valid_utf8(prompt)},
          {"text", valid_utf8(g.text)},
          {"prompt_tokens", g.prompt.size()},
          {"ids", g.tokens},
          {"finish", infer::name_of(g.finish)}};
}

void print_statistics(const infer::GenerationStatistics& s) {
  fmt::print(
      stderr,
      "prefill {} tokens in {:.2f} s ({:.1f} tokens/s), decode {} tokens in {:.2f} s ({:.1f} tokens/s)\n",
      s.prefill_tokens, s.prefill_seconds, s.prefill_rate(), s.decode_tokens, s.decode_seconds,
      s.decode_rate());
}

void run(Options& o) {
  require(o.has_prompt != !o.prompts.empty(), "give either --prompt or --prompts");
  if (o.ignore_end_of_text) o.generation.end_of_text = infer::EndOfText::ignore;
  const auto tokenizer = text::load_tokenizer(o.model);
  Prompts reader(*tokenizer, o.chat);
  if (o.prompts.empty()) {
    reader.add(o.prompt, "--prompt");
  } else {
    read_prompts(reader, o.prompts);
  }
  const auto& prompts = reader.all();
  if (o.chat) o.generation.stop.emplace_back(text::kMessageEnd);
  const Backend backend = o.backend.make();
  const auto model =
      model::load_model(o.model, {.matrix = o.dtype == "bf16" ? DType::bf16 : DType::f32}, backend.memory);

  const bool streams = o.stream && !o.json && prompts.size() == 1;
  infer::TextFunction on_text;
  if (streams) {
    on_text = [](std::size_t, std::string_view text) {
      write(text);
      std::fflush(stdout);
    };
  }
  std::vector<std::vector<text::TokenId>> ids;
  for (const auto& prompt : prompts) ids.push_back(prompt.ids);
  const auto result = infer::generate_from_ids(backend, model, *tokenizer, ids, o.generation, on_text);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    if (o.json) {
      write(to_json(result.sequences[i], prompts[i].text).dump() + "\n");
    } else {
      write((streams ? "" : result.sequences[i].text) + "\n");
    }
  }
  std::fflush(stdout);
  for (std::size_t i = 0; i < prompts.size() && !o.samples.empty(); ++i) {
    const nlohmann::ordered_json line{{"step", o.step},
                                      {"prompt", valid_utf8(prompts[i].text)},
                                      {"text", valid_utf8(result.sequences[i].text)}};
    append_line(o.samples, line.dump());
  }
  print_statistics(result.statistics);
  warn_of_numerical_events(backend);
}

void add_sampling(CLI::App& command, infer::SamplingOptions& s) {
  command.add_option("--temperature", s.temperature, "0: greedy")->capture_default_str();
  command.add_option("--top-k", s.top_k, "keep the k best tokens, 0: all")->capture_default_str();
  command.add_option("--top-p", s.top_p, "keep the best tokens of this total probability")
      ->capture_default_str();
  command.add_option("--min-p", s.min_p, "keep tokens of this share of the best one's probability")
      ->capture_default_str();
  command.add_option("--repetition-penalty", s.repetition_penalty, "1: off")->capture_default_str();
  command.add_option("--seed", s.seed, "of the random numbers")->capture_default_str();
}

}  // namespace

void add_generate(CLI::App& app) {
  auto* command = app.add_subcommand(
      "generate", "continue prompts; text to standard output, statistics to standard error");
  auto o = std::make_shared<Options>();
  auto& g = o->generation;
  command->add_option("model", o->model, "model directory")->required()->check(CLI::ExistingDirectory);
  auto* prompt =
      command->add_option("--prompt", o->prompt, "text to continue; empty: from the start of a text");
  command->add_option("--prompts", o->prompts, "file of prompts, one a line; .jsonl: {\"prompt\": …} a line")
      ->check(CLI::ExistingFile)
      ->excludes(prompt);
  command->add_flag(
      "--chat", o->chat,
      "a prompt is a user's message, which the assistant answers up to <|im_end|>; .jsonl: also "
      "{\"messages\": …} a line");
  command->add_option("--max-tokens", g.max_new_tokens, "new tokens per prompt")->capture_default_str();
  add_sampling(*command, g.sampling);
  command->add_option("--stop", g.stop, "end before this text (repeatable)")->allow_extra_args(false);
  command->add_flag("--ignore-end-of-text", o->ignore_end_of_text, "go on past an end of text");
  command->add_flag("--stream,!--no-stream", o->stream, "print as tokens come (one prompt, no --json)");
  command->add_flag("--json", o->json, "one JSON object a prompt: prompt, text, prompt_tokens, ids, finish");
  command
      ->add_option("--dtype", o->dtype, "of the large matrices in memory; on a GPU also what is computed in")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  command->add_option("--context", g.context, "tokens that prompt and text may reach, 0: the model's limit")
      ->capture_default_str();
  command->add_option("--batch", g.batch, "prompts at one time")->capture_default_str();
  command->add_option("--prefill-chunk", g.prefill_chunk, "tokens of a prompt per forward pass")
      ->capture_default_str();
  auto* samples =
      command->add_option("--samples", o->samples, "also append to this file (RUN/samples.jsonl)");
  command->add_option("--step", o->step, "of the run, for --samples")->needs(samples);
  o->backend.add_to(*command);
  command->callback([o, prompt] {
    o->has_prompt = prompt->count() != 0;
    run(*o);
  });
}

}  // namespace braid::app
