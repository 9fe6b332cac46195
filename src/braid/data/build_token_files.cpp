#include "braid/data/build_token_files.h"

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "braid/data/documents.h"

namespace braid::data {
namespace {

using Clock = std::chrono::steady_clock;

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
    for (const char* ending : {".json", ".u16", ".u32"}) {
      std::error_code error;
      fs::remove(folder / (split + ending), error);
      require(!error, "cannot remove {}: {}", (folder / (split + ending)).string(), error.message());
    }
  }
}

class Reporter {
 public:
  explicit Reporter(const BuildOptions& options) : report_(options.progress) {}
  BuildProgress& counts() { return counts_; }
  void tick() {
    if (Clock::now() - last_ >= std::chrono::milliseconds(500)) report();
  }
  void report() {
    last_ = Clock::now();
    counts_.seconds = std::chrono::duration<double>(last_ - start_).count();
    if (report_) report_(counts_);
  }

 private:
  std::function<void(const BuildProgress&)> report_;
  BuildProgress counts_;
  Clock::time_point start_ = Clock::now(), last_ = start_;
};

void tokenize(const Plan& plan, const text::Tokenizer& tokenizer, const BuildOptions& options,
              TokenFileWriter& train, TokenFileWriter* validation) {
  Reporter reporter(options);
  for (const fs::path& file : plan.files) {
    for_each_document(file, [&](Document&& document) {
      BuildProgress& counts = reporter.counts();
      ++(document.text.empty() ? counts.empty_documents : counts.documents);
      if (document.text.empty()) return true;
      const bool held_out =
          validation != nullptr && in_validation(document.text, options.validation_fraction, options.seed);
      const std::vector<TokenId> ids = tokenizer.encode(document.text);
      const auto bytes = static_cast<std::int64_t>(document.text.size());
      (held_out ? *validation : train).append_document(ids, bytes);
      counts.text_bytes += bytes;
      counts.tokens += static_cast<std::int64_t>(ids.size()) + 1;
      reporter.tick();
      return true;
    });
  }
  reporter.report();
}

}  // namespace

bool in_validation(std::string_view text, double fraction, std::uint64_t seed) {
  return static_cast<double>(Hash64(seed).update(text).value() >> 11) * 0x1p-53 < fraction;
}

BuiltTokenFiles build_token_files(const std::vector<fs::path>& inputs, const text::Tokenizer& tokenizer,
                                  const fs::path& folder, const BuildOptions& options) {
  require(!inputs.empty(), "no input files or folders to build token files from");
  require(options.validation_fraction >= 0 && options.validation_fraction < 1,
          "the validation fraction is {}, expected at least 0 and below 1", options.validation_fraction);
  const Vocabulary vocabulary = vocabulary_of(tokenizer);
  const Plan plan = make_plan(inputs, folder, vocabulary, options);
  if (auto earlier = find_earlier(plan, vocabulary)) return *std::move(earlier);

  std::error_code error;
  fs::create_directories(folder, error);
  require(!error, "cannot create the folder {}: {}", folder.string(), error.message());
  io::remove_leftovers(plan.train);
  if (!plan.validation.empty()) io::remove_leftovers(plan.validation);
  TokenFileWriter train(plan.train, vocabulary);
  std::optional<TokenFileWriter> validation;
  if (!plan.validation.empty()) validation.emplace(plan.validation, vocabulary);
  tokenize(plan, tokenizer, options, train, validation ? &*validation : nullptr);
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
  return built;
}

}  // namespace braid::data
