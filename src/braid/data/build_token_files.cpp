#include "braid/data/build_token_files.h"

#include <array>
#include <optional>
#include <utility>

#include "braid/data/build_shards.h"
#include "braid/data/document_bounds.h"
#include "braid/data/documents.h"

namespace braid::data {
namespace {

constexpr int kBuildVersion = 1;  // raise it when the same inputs would give other bytes
constexpr std::array kSplits = {"train", "validation"};

struct Plan {
  std::vector<fs::path> files;
  nlohmann::json made;  // common to both splits
  fs::path train, validation;
};

Plan make_plan(const std::vector<fs::path>& inputs, const fs::path& folder, const Vocabulary& vocabulary,
               const BuildOptions& options) {
  Plan plan;
  nlohmann::json names = nlohmann::json::array();
  for (const fs::path& input : inputs) {
    for (fs::path& file : document_files(input)) plan.files.push_back(std::move(file));
    // "corpus/" and "corpus" are the same input. Names are for people: bytes that are not UTF-8 become '?'.
    const fs::path name = input.has_filename() ? input.filename() : input.parent_path().filename();
    std::string shown = name.string();
    for (char& c : shown) c = static_cast<unsigned char>(c) < 0x80 ? c : '?';
    names.push_back(shown);
  }
  Hash64 fingerprint;
  std::uint64_t total = 0;
  for (const fs::path& file : plan.files) {
    const io::MappedFile content(file);
    fingerprint.update(document_ending(file)).update(content.bytes().size());
    fingerprint.update(Hash64().update(content.bytes()).value());
    total += content.bytes().size();
  }
  plan.made = {{"version", kBuildVersion},
               {"inputs", std::move(names)},
               {"input_files", plan.files.size()},
               {"input_bytes", total},
               {"input_fingerprint", fingerprint.hex()},
               {"validation_fraction", options.validation_fraction},
               {"seed", options.seed}};
  plan.train = folder / token_file_name(kSplits[0], vocabulary.size);
  if (options.validation_fraction > 0)
    plan.validation = folder / token_file_name(kSplits[1], vocabulary.size);
  return plan;
}

nlohmann::json made_for(const Plan& plan, const char* split) {
  nlohmann::json made = plan.made;
  made["split"] = split;
  return made;
}

// The sidecar of `path` if the file is whole and was made from the same things.
std::optional<TokenFileInfo> up_to_date(const fs::path& path, nlohmann::json made,
                                        const Vocabulary& vocabulary) {
  std::error_code error;
  if (!fs::exists(path, error) || !fs::exists(sidecar_path(path), error)) return std::nullopt;
  try {
    const TokenFile file(path, {.vocabulary_size = vocabulary.size, .tokenizer = vocabulary.tokenizer});
    nlohmann::json found = file.info()->made;
    found.erase("inputs"), made.erase("inputs");  // names do not matter
    if (found != made) return std::nullopt;
    file.verify();
    return file.info();
  } catch (const Error&) {  // damaged or of another kind: it is built again
    return std::nullopt;
  }
}

std::optional<BuiltTokenFiles> find_earlier(const Plan& plan, const Vocabulary& vocabulary) {
  const auto train = up_to_date(plan.train, made_for(plan, kSplits[0]), vocabulary);
  if (!train) return std::nullopt;
  BuiltTokenFiles built;
  built.train = plan.train, built.validation = plan.validation;
  built.train_info = *train, built.reused = true;
  if (plan.validation.empty()) return built;
  const auto validation = up_to_date(plan.validation, made_for(plan, kSplits[1]), vocabulary);
  if (!validation) return std::nullopt;
  built.validation_info = *validation;
  return built;
}

// All of an earlier result, of either width, so that no file of it is left beside the new ones.
void remove_earlier(const fs::path& folder) {
  for (const std::string split : kSplits) {
    for (const char* ending : {".json", ".u16", ".u32", ".csv.gz", ".mask"}) {
      std::error_code error;
      fs::remove(folder / (split + ending), error);
      require(!error, "cannot remove {}: {}", (folder / (split + ending)).string(), error.message());
    }
  }
}

// What the parts of a build depend on.
std::string plan_text(const Plan& plan, const Vocabulary& vocabulary) {
  nlohmann::json json = plan.made;
  json.erase("inputs");  // names do not matter
  json["tokenizer"] = vocabulary.tokenizer;
  json["vocabulary_size"] = vocabulary.size;
  return json.dump(2) + "\n";
}

void write_bounds(const fs::path& path, TokenId end_of_text) {
  const fs::path list = bounds_path(path);
  std::error_code error;
  if (!path.empty() && !fs::exists(list, error)) {
    write_document_bounds(list, document_bounds(TokenFile(path), end_of_text));
  }
}

}  // namespace

bool in_validation(std::string_view text, double fraction, std::uint64_t seed) {
  return static_cast<double>(Hash64(seed).update(text).value() >> 11) * 0x1p-53 < fraction;
}

double BuildProgress::bytes_per_second() const {
  return seconds > 0 ? static_cast<double>(text_bytes - resumed_text_bytes) / seconds : 0;
}

double BuildProgress::seconds_left() const {
  const auto done = static_cast<double>(input_bytes - resumed_bytes);
  return done > 0 ? seconds * static_cast<double>(total_bytes - input_bytes) / done : 0;
}

BuiltTokenFiles build_token_files(const std::vector<fs::path>& inputs, const text::Tokenizer& tokenizer,
                                  const fs::path& folder, const BuildOptions& options) {
  require(!inputs.empty(), "no input files or folders to build token files from");
  require(options.validation_fraction >= 0 && options.validation_fraction < 1,
          "the validation fraction is {}, expected at least 0 and below 1", options.validation_fraction);
  require(options.workers >= 1, "{} workers, expected at least 1", options.workers);
  require(options.shard_bytes >= 1, "shards of {} bytes, expected at least 1", options.shard_bytes);
  const Vocabulary vocabulary = vocabulary_of(tokenizer);
  const Plan plan = make_plan(inputs, folder, vocabulary, options);
  const auto add_bounds = [&] {
    if (!options.bounds) return;
    write_bounds(plan.train, vocabulary.end_of_text);
    write_bounds(plan.validation, vocabulary.end_of_text);
  };
  if (auto earlier = find_earlier(plan, vocabulary)) {
    add_bounds();
    return *std::move(earlier);
  }

  ShardedBuild work(folder / ".build", plan_text(plan, vocabulary), vocabulary, options);
  work.run(plan.files, tokenizer);
  io::remove_leftovers(plan.train);
  if (!plan.validation.empty()) io::remove_leftovers(plan.validation);
  TokenFileWriter train(plan.train, vocabulary);
  work.write(kTrain, train);
  std::optional<TokenFileWriter> validation;
  if (!plan.validation.empty()) work.write(kValidation, validation.emplace(plan.validation, vocabulary));
  require(train.info().tokens > 0 || (validation && validation->info().tokens > 0),
          "{}: no document with text in it, nor in the other inputs", inputs.front().string());
  const auto refuse_empty = [&](const TokenFileWriter& writer, const char* split) {
    require(writer.info().tokens > 0,
            "no document falls into the {} split with validation fraction {} and seed {}; split the text "
            "into more documents, or change the fraction (0: no validation)",
            split, options.validation_fraction, options.seed);
  };
  refuse_empty(train, kSplits[0]);
  if (validation) refuse_empty(*validation, kSplits[1]);

  remove_earlier(folder);
  BuiltTokenFiles built;
  built.train = plan.train, built.validation = plan.validation;
  built.train_info = train.commit(made_for(plan, kSplits[0]));
  if (validation) built.validation_info = validation->commit(made_for(plan, kSplits[1]));
  work.finish();
  add_bounds();
  return built;
}

}  // namespace braid::data
