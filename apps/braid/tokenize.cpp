#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "braid/io/json.h"
#include "braid/text/tokenizer.h"
#include "command.h"
#include "encodings.h"

namespace braid::app {
namespace {

struct Options {
  std::string tokenizer;
  bool decode = false, jsonl = false;
};

nlohmann::ordered_json encode_line(const io::Fields& fields, const text::Tokenizer& tokenizer) {
  return {{"ids", tokenizer.encode(fields.string("text"))}};
}

// Bytes that are not UTF-8 show as U+FFFD in `text`; `bytes` then has them in base64.
nlohmann::ordered_json decode_line(const io::Fields& fields, const text::Tokenizer& tokenizer) {
  std::vector<text::TokenId> ids;
  for (const auto id : fields.integers("ids", 0, tokenizer.vocabulary_size() - 1)) {
    ids.push_back(static_cast<text::TokenId>(id));
  }
  const auto bytes = tokenizer.decode(ids);
  const auto text = valid_utf8(bytes);
  nlohmann::ordered_json line{{"text", text}};
  if (text != bytes) line["bytes"] = base64(bytes);
  return line;
}

void run(const Options& o) {
  const auto tokenizer = text::load_tokenizer(o.tokenizer);
  std::ios::sync_with_stdio(false);
  std::string line;
  for (std::int64_t number = 1; std::getline(std::cin, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto source = fmt::format("standard input:{}", number);
    const auto value = io::parse_json(line, source);
    const io::Fields fields(value, source);
    std::string out;
    try {
      out = (o.decode ? decode_line(fields, *tokenizer) : encode_line(fields, *tokenizer)).dump();
    } catch (const Error& error) {
      const std::string_view what = error.what();
      if (what.starts_with(source)) throw;
      fail("{}: {}", source, what);
    }
    std::cout << out << '\n';
  }
  std::cout.flush();
  require(static_cast<bool>(std::cout), "standard output: writing failed");
}

}  // namespace

void add_tokenize(CLI::App& app) {
  auto* command =
      app.add_subcommand("tokenize", "text to ids: lines {\"text\": …} in, lines {\"ids\": […]} out");
  auto o = std::make_shared<Options>();
  command->add_option("tokenizer", o->tokenizer, "tokenizer.json (or .gz), a model directory, or byte")
      ->required();
  command->add_flag("--decode", o->decode,
                    "the other way: {\"ids\"} to {\"text\"}, and base64 \"bytes\" where they are not UTF-8");
  command->add_flag("--jsonl", o->jsonl, "JSON Lines, the only format so far");
  command->callback([o] { run(*o); });
}

}  // namespace braid::app
