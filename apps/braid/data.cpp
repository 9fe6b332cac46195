#include <cmath>
#include <nlohmann/json.hpp>
#include <thread>

#include "braid/data/build_token_files.h"
#include "braid/data/document_bounds.h"
#include "braid/data/documents.h"
#include "braid/data/inspect_token_file.h"
#include "braid/io/files.h"
#include "braid/text/train_tokenizer.h"
#include "command.h"

namespace braid::app {
namespace {

namespace fs = std::filesystem;

struct BuildCommand {
  std::vector<std::string> inputs;
  std::string tokenizer = "byte", output;
  double validation_fraction = 0.01;
  std::uint64_t seed = 0;
  int workers = 0;
  bool bounds = false;
};

std::string duration(double seconds) {
  const auto s = static_cast<std::int64_t>(std::lround(seconds));
  return s >= 3600 ? fmt::format("{}h{:02}m", s / 3600, s / 60 % 60)
                   : fmt::format("{}m{:02}s", s / 60, s % 60);
}

void show_progress(const data::BuildProgress& p) {
  fmt::print(stderr, "{} documents, {:.1f} MB, {:.1f} MB/s, {:.1f} %, left {}\n", p.documents,
             static_cast<double>(p.text_bytes) / 1e6, p.bytes_per_second() / 1e6,
             p.total_bytes > 0 ? 100 * static_cast<double>(p.input_bytes) / static_cast<double>(p.total_bytes)
                               : 100.0,
             duration(p.seconds_left()));
}

void build(const BuildCommand& o) {
  const auto tokenizer = text::load_tokenizer(o.tokenizer);
  const int workers =
      o.workers > 0 ? o.workers : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  bool told = false;
  const auto progress = [&](const data::BuildProgress& p) {
    if (p.resumed && !std::exchange(told, true)) {
      fmt::print(stderr, "going on behind {:.1f} MB that an earlier build has tokenised\n",
                 static_cast<double>(p.resumed_text_bytes) / 1e6);
    }
    show_progress(p);
  };
  const auto built = data::build_token_files({o.inputs.begin(), o.inputs.end()}, *tokenizer, o.output,
                                             {.validation_fraction = o.validation_fraction,
                                              .seed = o.seed,
                                              .workers = workers,
                                              .bounds = o.bounds,
                                              .progress = progress});
  const auto show = [](const fs::path& path, const data::TokenFileInfo& info) {
    fmt::print("{}: {} documents, {} tokens, {} bytes of text\n", path.string(), info.documents, info.tokens,
               info.text_bytes);
  };
  show(built.train, built.train_info);
  if (!built.validation.empty()) show(built.validation, built.validation_info);
}

void add_build(CLI::App& data) {
  auto* command = data.add_subcommand(
      "build", "tokenise documents into token files; run again to go on after an interruption");
  auto o = std::make_shared<BuildCommand>();
  command->add_option("inputs", o->inputs, "files (.jsonl, .txt, each also .gz or .zst) or folders")
      ->required();
  command->add_option("--tokenizer", o->tokenizer, "byte, tokenizer.json or a model directory")
      ->capture_default_str();
  command->add_option("--output", o->output, "folder for train.u16 and validation.u16 (or .u32)")->required();
  command->add_option("--validation-fraction", o->validation_fraction, "share of the documents")
      ->check(CLI::Range(0.0, 0.9))
      ->capture_default_str();
  command->add_option("--seed", o->seed, "chooses the validation documents")->capture_default_str();
  command->add_option("--workers", o->workers, "threads, 0: all cores; the bytes do not depend on it")
      ->check(CLI::Range(0, 1024));
  command->add_flag("--bounds", o->bounds, "write lists of document bounds (.csv.gz) too");
  command->callback([o] { build(*o); });
}

struct InspectCommand {
  std::vector<std::string> files;
  std::string tokenizer, width = "auto";
  int documents = 0, characters = 400;
  bool json = false;
};

data::TokenFileOptions file_options(const InspectCommand& o, const fs::path& path,
                                    const text::Tokenizer* tokenizer) {
  data::TokenFileOptions options;
  if (data::width_of_name(path)) return options;
  if (o.width == "uint16") options.width = data::TokenWidth::u16;
  if (o.width == "uint32") options.width = data::TokenWidth::u32;
  if (o.width == "auto" && tokenizer != nullptr)
    options.width = data::width_for(tokenizer->vocabulary_size());
  return options;
}

nlohmann::ordered_json to_json(const std::string& path, const data::TokenFileReport& r) {
  nlohmann::ordered_json j{{"file", path},
                           {"tokens", r.tokens},
                           {"documents", r.documents},
                           {"open_tokens", r.open_tokens},
                           {"largest_id", r.largest},
                           {"unknown_ids", r.unknown},
                           {"mean_length", r.mean_length}};
  for (std::size_t i = 0; i < r.lengths.size(); ++i) {
    j["length_percentiles"][std::to_string(data::kLengthPercentiles[i])] = r.lengths[i];
  }
  if (r.labels) j["labels"] = *r.labels, j["documents_without_labels"] = r.documents_without_labels;
  return j;
}

void show_report(const std::string& path, const data::TokenFileReport& r) {
  fmt::print("{}: {} documents, {} tokens, largest id {}, {} unknown ids", path, r.documents, r.tokens,
             r.largest, r.unknown);
  if (r.first_unknown) fmt::print(" (the first is token {})", *r.first_unknown);
  fmt::print("\n  tokens per document: mean {:.1f}", r.mean_length);
  for (std::size_t i = 0; i < r.lengths.size(); ++i) {
    fmt::print(", {} % {}", data::kLengthPercentiles[i], r.lengths[i]);
  }
  fmt::print("\n");
  if (r.open_tokens > 0) fmt::print("  {} tokens after the last end of text\n", r.open_tokens);
  if (r.labels) {
    fmt::print("  label mask: {} of {} tokens are labels ({:.2f} %), {} documents have none\n", *r.labels,
               r.tokens, 100 * static_cast<double>(*r.labels) / static_cast<double>(r.tokens),
               r.documents_without_labels);
  }
}

// The first documents, cut after some characters; what is not a label stands in brackets where there is a
// mask.
void show_documents(const InspectCommand& o, const data::TokenFile& file, const text::Tokenizer& tokenizer) {
  const auto documents = data::document_bounds(file, tokenizer.end_of_text().value_or(-1));
  for (std::size_t d = 0; d < std::min(documents.size(), static_cast<std::size_t>(o.documents)); ++d) {
    const auto tokens = std::min<std::int64_t>(documents[d].end - documents[d].begin, o.characters);
    std::vector<data::TokenId> ids(static_cast<std::size_t>(tokens));
    std::vector<std::uint8_t> labels(ids.size(), 1);
    file.read(documents[d].begin, ids);
    if (file.label_mask() != nullptr) file.label_mask()->read(documents[d].begin, labels);
    std::string text;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (labels[i] == 0 && (i == 0 || labels[i - 1] == 1)) text += "[";
      text += tokenizer.decode(std::span(&ids[i], 1));
      if (labels[i] == 0 && (i + 1 == ids.size() || labels[i + 1] == 1)) text += "]";
    }
    const bool cut = text.size() > static_cast<std::size_t>(o.characters) ||
                     tokens < documents[d].end - documents[d].begin;
    text.resize(std::min(text.size(), static_cast<std::size_t>(o.characters)));
    fmt::print("  document {} ({} tokens): {}{}\n", d, documents[d].end - documents[d].begin,
               nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace),
               cut ? " …" : "");
  }
}

void inspect(const InspectCommand& o) {
  std::unique_ptr<text::Tokenizer> tokenizer;
  if (!o.tokenizer.empty()) tokenizer = text::load_tokenizer(o.tokenizer);
  require(o.documents == 0 || tokenizer, "--documents needs --tokenizer, to decode them");
  for (const std::string& path : o.files) {
    auto options = file_options(o, path, tokenizer.get());
    const auto report = data::inspect_token_file(path, {.file = options, .tokenizer = tokenizer.get()});
    if (o.json) {
      fmt::print("{}\n", to_json(path, report).dump());
      continue;
    }
    show_report(path, report);
    if (o.documents == 0) continue;
    options.vocabulary_size = tokenizer->vocabulary_size();
    show_documents(o, data::TokenFile(path, options), *tokenizer);
  }
}

void add_inspect_data(CLI::App& data) {
  auto* command =
      data.add_subcommand("inspect", "what is in token files: documents, lengths, unknown ids, label masks");
  auto o = std::make_shared<InspectCommand>();
  command->add_option("files", o->files, "token files")->required()->check(CLI::ExistingFile);
  command->add_option("--tokenizer", o->tokenizer, "byte, tokenizer.json or a model directory");
  command->add_option("--documents", o->documents, "decode this many from the front")
      ->check(CLI::Range(0, 1 << 20));
  command->add_option("--characters", o->characters, "of each of them")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--token-width", o->width, "of files whose names do not say it")
      ->check(CLI::IsMember({"auto", "uint16", "uint32"}))
      ->capture_default_str();
  command->add_flag("--json", o->json, "one JSON object a line");
  command->callback([o] { inspect(*o); });
}

struct TrainCommand {
  std::vector<std::string> inputs, special_tokens = {"<|endoftext|>"};
  std::string output, pattern = "cl100k";
  std::int64_t vocabulary = 32768, min_count = 2;
};

void train_tokenizer(const TrainCommand& o) {
  text::TokenizerTrainer trainer(
      {.vocabulary = o.vocabulary,
       .min_count = o.min_count,
       .pattern = o.pattern == "gpt2" ? text::SplitPattern::gpt2 : text::SplitPattern::cl100k,
       .special_tokens = o.special_tokens});
  std::int64_t bytes = 0, documents = 0;
  for (const std::string& input : o.inputs) {
    data::for_each_document(input, [&](data::Document&& document) {
      trainer.add(document.text);
      bytes += static_cast<std::int64_t>(document.text.size());
      ++documents;
      return true;
    });
  }
  const std::string json = trainer.finish();
  const auto tokenizer = text::parse_tokenizer_json(json, o.output);
  io::write_file(o.output, json);
  fmt::print("{}: {} ids from {} documents, {:.1f} MB, {} different pieces\n", o.output,
             tokenizer->vocabulary_size(), documents, static_cast<double>(bytes) / 1e6, trainer.pieces());
  if (tokenizer->vocabulary_size() < o.vocabulary) {
    fmt::print("the text has no more pairs that come {} times: {} ids were asked for\n", o.min_count,
               o.vocabulary);
  }
}

void add_train_tokenizer(CLI::App& data) {
  auto* command = data.add_subcommand("train-tokenizer", "train a byte-level BPE tokenizer on documents");
  auto o = std::make_shared<TrainCommand>();
  command->add_option("inputs", o->inputs, "files (.jsonl, .txt, each also .gz or .zst) or folders")
      ->required();
  command->add_option("--output", o->output, "the tokenizer.json to write")->required();
  command->add_option("--vocabulary", o->vocabulary, "ids, bytes and special tokens included")
      ->capture_default_str();
  command->add_option("--pattern", o->pattern, "how text is cut into pieces")
      ->check(CLI::IsMember({"cl100k", "gpt2"}))
      ->capture_default_str();
  command
      ->add_option("--special-token", o->special_tokens,
                   "may be given several times; an end of text is needed to build")
      ->allow_extra_args(false)
      ->capture_default_str();
  command->add_option("--min-count", o->min_count, "pairs that come less often are not merged")
      ->capture_default_str();
  command->callback([o] { train_tokenizer(*o); });
}

}  // namespace

void add_data(CLI::App& app) {
  auto* command = app.add_subcommand("data", "documents, tokenizers and token files");
  command->require_subcommand(1);
  add_build(*command);
  add_inspect_data(*command);
  add_train_tokenizer(*command);
  add_chat_data(*command);
}

}  // namespace braid::app
