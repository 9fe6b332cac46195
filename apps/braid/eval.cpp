#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "braid/eval/perplexity.h"
#include "braid/eval/tasks.h"
#include "command.h"

namespace braid::app {
namespace {

struct Options {
  std::string model, dtype = "f32";
  std::vector<std::string> data;
  std::string tasks, scores, wrong_answers;
  std::int64_t context = 0, batch_tokens = 4096, by_position = 0, step = 0;
  eval::TaskOptions answering;
  bool json = false, document_masking = false;
  BackendOptions backend;
};

constexpr std::int64_t kDefaultContext = 4096;

class Evaluation {
 public:
  explicit Evaluation(const Options& o)
      : backend_(o.backend.make()),
        model_(model::load_model(o.model, {.matrix = o.dtype == "bf16" ? DType::bf16 : DType::f32},
                                 backend_.memory)),
        masking_(o.document_masking ? data::DocumentMasking::yes : data::DocumentMasking::no) {
    const auto longest = std::min(model_.config.max_positions, kDefaultContext);
    options_ = {.context = o.context != 0 ? o.context : longest,
                .batch_tokens = o.batch_tokens,
                .position_parts = o.by_position};
    // Token files can be scored without a tokenizer; their bits per byte cannot.
    const bool needed = std::ranges::any_of(o.data, [](const auto& f) { return !is_token_file(f); });
    if (needed || !o.tasks.empty() || has_tokenizer(o.model)) tokenizer_ = text::load_tokenizer(o.model);
  }

  eval::TextLoss score(const std::string& path) const {
    return is_token_file(path) ? score_tokens(path) : score_documents(path);
  }
  // With `wrong_answers`, the pairs go into that file.
  eval::TaskResult score_tasks(const Options& o) const {
    const auto items = eval::read_tasks(o.tasks, *tokenizer_);
    std::optional<io::AtomicFile> pairs;
    if (!o.wrong_answers.empty()) pairs.emplace(o.wrong_answers);  // a bad path is known before the answers
    auto result = eval::score_tasks(backend_, model_, *tokenizer_, items, o.answering);
    if (pairs) write_pairs(*pairs, o.wrong_answers, items, result);
    return result;
  }
  std::int64_t context() const { return options_.context; }
  const Backend& backend() const { return backend_; }

 private:
  void write_pairs(io::AtomicFile& file, const std::string& path, const std::vector<eval::TaskItem>& items,
                   const eval::TaskResult& result) const {
    const auto pairs = eval::wrong_answer_pairs(items, result, *tokenizer_);
    for (const auto& pair : pairs) file.write(pair + "\n");
    file.commit();
    fmt::print(stderr, "{}: {} preference pairs\n", path, pairs.size());
  }
  static bool is_token_file(const std::string& path) { return data::width_of_name(path).has_value(); }
  static bool has_tokenizer(const io::fs::path& folder) {
    return io::fs::exists(folder / "tokenizer.json") || io::fs::exists(folder / "braid_tokenizer.json");
  }

  eval::TextLoss score_tokens(const std::string& path) const {
    data::TokenFileOptions options{.vocabulary_size = model_.config.vocabulary_size};
    if (tokenizer_) options.tokenizer = data::tokenizer_fingerprint(*tokenizer_);
    std::vector<data::TokenFile> files;
    files.emplace_back(path, options);
    const auto end = end_of_text(files[0]);
    require(masking_ == data::DocumentMasking::no || end >= 0,
            "{}: --document-masking needs an end of text: neither sidecar nor tokenizer names one", path);
    const data::FixedLengthDataset dataset(std::move(files), options_.context);
    return eval::score_instances(backend_, model_, dataset,
                                 {.end_of_text = end, .document_masking = masking_}, options_,
                                 tokenizer_.get());
  }
  data::TokenId end_of_text(const data::TokenFile& file) const {
    if (file.info()) return file.info()->vocabulary.end_of_text;
    return tokenizer_ ? tokenizer_->end_of_text().value_or(-1) : -1;
  }
  eval::TextLoss score_documents(const std::string& path) const {
    eval::DocumentScorer scorer(backend_, model_, *tokenizer_, options_);
    data::for_each_document(path, [&](data::Document&& document) {
      scorer.add(document.text);
      return true;
    });
    return scorer.finish();
  }

  Backend backend_;
  model::Model model_;
  data::DocumentMasking masking_;
  eval::PerplexityOptions options_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
};

// Positions [first, end) of a window.
std::pair<std::int64_t, std::int64_t> part_of(const eval::TextLoss& l, std::size_t part,
                                              std::int64_t context) {
  const auto parts = static_cast<std::int64_t>(l.part_nll.size()), i = static_cast<std::int64_t>(part);
  return {(i * context + parts - 1) / parts, ((i + 1) * context + parts - 1) / parts};
}

nlohmann::ordered_json part_loss(const eval::TextLoss& l, std::size_t part) {
  if (l.part_tokens[part] == 0) return nullptr;
  return l.part_nll[part] / static_cast<double>(l.part_tokens[part]);
}

nlohmann::ordered_json to_json(const std::string& name, const eval::TextLoss& l, std::int64_t context) {
  nlohmann::ordered_json j{{"data", name},
                           {"context", context},
                           {"loss", l.loss()},
                           {"perplexity", l.perplexity()},
                           {"bits_per_byte", nullptr},
                           {"tokens", l.tokens},
                           {"text_bytes", l.text_bytes},
                           {"documents", l.documents},
                           {"instances", l.instances}};
  if (l.text_bytes > 0) j["bits_per_byte"] = l.bits_per_byte();
  if (l.part_nll.empty()) return j;
  j["by_position"] = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < l.part_nll.size(); ++i) {
    const auto [first, end] = part_of(l, i, context);
    j["by_position"].push_back(
        {{"first", first}, {"end", end}, {"tokens", l.part_tokens[i]}, {"loss", part_loss(l, i)}});
  }
  return j;
}

std::string to_text(const std::string& name, const eval::TextLoss& l, std::int64_t context) {
  const auto bits = l.text_bytes > 0 ? fmt::format("{:.4f}", l.bits_per_byte()) : "unknown";
  const auto parts =
      l.documents > 0 ? fmt::format("{} documents", l.documents) : fmt::format("{} instances", l.instances);
  auto text = fmt::format("{}: loss {:.4f}, perplexity {:.3f}, bits per byte {} ({} tokens, {})", name,
                          l.loss(), l.perplexity(), bits, l.tokens, parts);
  for (std::size_t i = 0; i < l.part_nll.size(); ++i) {
    const auto [first, end] = part_of(l, i, context);
    text += fmt::format("\n  positions {} to {}: loss {} ({} tokens)", first, end - 1,
                        l.part_tokens[i] == 0 ? "none" : fmt::format("{:.4f}", part_loss(l, i).get<double>()),
                        l.part_tokens[i]);
  }
  return text;
}

void show_tasks(const Evaluation& evaluation, const Options& o) {
  const auto result = evaluation.score_tasks(o);
  const auto show = [&](const eval::TaskScore& s) {
    const nlohmann::ordered_json line{
        {"step", o.step}, {"task", s.task}, {"score", s.score()}, {"examples", s.examples}};
    if (o.json) {
      fmt::print("{}\n", line.dump());
    } else {
      fmt::print("task {}: {} of {} right, {:.3f}\n", s.task, s.correct, s.examples, s.score());
    }
    if (!o.scores.empty()) append_line(o.scores, line.dump());
  };
  for (const auto& task : result.tasks) show(task);
  show(result.total);
}

void run(const Options& o) {
  require(!o.data.empty() || !o.tasks.empty(), "give --data, --tasks or both");
  const Evaluation evaluation(o);
  eval::TextLoss total;
  const auto show = [&](const std::string& name, const eval::TextLoss& l) {
    fmt::print("{}\n", o.json ? to_json(name, l, evaluation.context()).dump()
                              : to_text(name, l, evaluation.context()));
  };
  for (const auto& path : o.data) {
    const auto loss = evaluation.score(path);
    require(loss.tokens > 0, "{}: holds no document, so there is nothing to score", path);
    require(std::isfinite(loss.nll_sum), "{}: the loss is {}: the weights of {} are broken", path,
            loss.loss(), o.model);
    show(path, loss);
    total += loss;
  }
  if (o.data.size() > 1) show("total", total);
  if (!o.tasks.empty()) show_tasks(evaluation, o);
  warn_of_numerical_events(evaluation.backend());
}

}  // namespace

void add_eval(CLI::App& app) {
  auto* command = app.add_subcommand("eval", "loss, perplexity and bits per byte of texts or token files");
  auto o = std::make_shared<Options>();
  command->add_option("model", o->model, "model directory")->required()->check(CLI::ExistingDirectory);
  command
      ->add_option("--data", o->data, "token files (.u16, .u32), or texts: .jsonl, .txt (.gz, .zst), folders")
      ->check(CLI::ExistingPath);
  auto* tasks = command
                    ->add_option("--tasks", o->tasks,
                                 "questions with one answer (.jsonl): exact match of its answers by task")
                    ->check(CLI::ExistingFile);
  command->add_option("--batch", o->answering.batch, "tasks answered at one time")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  command->add_option("--temperature", o->answering.sampling.temperature, "of the answers, 0: greedy")
      ->needs(tasks)
      ->capture_default_str();
  command->add_option("--seed", o->answering.sampling.seed, "of the random numbers")
      ->needs(tasks)
      ->capture_default_str();
  command
      ->add_option("--wrong-answers", o->wrong_answers,
                   "write wrong answers to tasks with messages here (.jsonl), as preference pairs with the "
                   "right ones")
      ->needs(tasks);
  auto* scores =
      command->add_option("--scores", o->scores, "also append task scores here (RUN/scores.jsonl)");
  command->add_option("--step", o->step, "of the run, for --scores")->needs(scores);
  command->add_option("--by-position", o->by_position, "also the loss in this many equal parts of the window")
      ->check(CLI::Range(0, 1 << 16));
  command->add_option("--context", o->context, "tokens per window, 0: the model's limit, at most 4096");
  command->add_option("--batch-tokens", o->batch_tokens, "tokens per forward pass")
      ->check(CLI::Range(1, 1 << 30))  // offsets have 32 bits
      ->capture_default_str();
  command->add_flag("--document-masking", o->document_masking, "token files: nothing passes an end of text");
  command
      ->add_option("--dtype", o->dtype, "of the large matrices in memory; on a GPU also what is computed in")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  command->add_flag("--json", o->json, "one JSON object a line");
  o->backend.add_to(*command);
  command->callback([o] { run(*o); });
}

}  // namespace braid::app
