#include "braid/infer/generation.h"

#include <algorithm>
#include <chrono>

#include "braid/infer/stop_strings.h"
#include "braid/model/session.h"

namespace braid::infer {
namespace {

using text::TokenId;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What all sequences share.
struct Job {
  const text::Tokenizer& tokenizer;
  const GenerationOptions& options;
  const TextFunction& on_text;
  std::vector<std::int64_t> eos;
  std::int64_t context, vocabulary;
};

// One prompt on its way.
class Sequence {
 public:
  Sequence(const Job& job, std::size_t index, std::vector<TokenId> prompt)
      : job_(job), index_(index), decoder_(job.tokenizer), stops_(job.options.stop), seen_(prompt) {
    out_.prompt = std::move(prompt);
  }

  bool started() const { return !out_.tokens.empty(); }
  bool done() const { return done_; }
  std::int64_t unfed() const { return static_cast<std::int64_t>(seen_.size()) - fed_; }
  // The most tokens that the sequence may reach.
  std::int64_t limit() const {
    const auto prompt = static_cast<std::int64_t>(out_.prompt.size());
    return prompt + std::min(job_.options.max_new_tokens, job_.context - prompt);
  }
  std::vector<TokenId> feed(std::int64_t count) {
    const auto first = seen_.begin() + fed_;
    fed_ += count;
    return {first, first + count};
  }
  // How the next token is drawn.
  Draw next() const {
    return {.seen = seen_, .stream = job_.options.first_stream + index_, .index = out_.tokens.size()};
  }
  void extend(TokenId id) {
    out_.tokens.push_back(id);
    seen_.push_back(id);
    const bool ends =
        job_.options.end_of_text == EndOfText::stop && std::ranges::find(job_.eos, id) != job_.eos.end();
    if (ends) return finish(FinishReason::end_of_text);
    emit(stops_.push(decoder_.push(id)));
    if (stops_.found()) return finish(FinishReason::stop_string);
    if (static_cast<std::int64_t>(seen_.size()) >= limit()) finish(FinishReason::length);
  }
  void finish(FinishReason reason) {
    emit(stops_.push(decoder_.finish()));
    emit(stops_.finish());
    out_.finish = reason;
    done_ = true;
  }
  Generation take() { return std::move(out_); }

 private:
  void emit(const std::string& text) {
    if (text.empty()) return;
    out_.text += text;
    if (job_.on_text) job_.on_text(index_, text);
  }

  const Job& job_;
  std::size_t index_;
  text::StreamingDecoder decoder_;
  StopStrings stops_;
  std::vector<TokenId> seen_;  // prompt and drawn tokens
  std::int64_t fed_ = 0;       // of them, in the session
  Generation out_;
  bool done_ = false;
};

// Sequences that share a session.
class Group {
 public:
  Group(const Backend& backend, const model::Model& model, std::span<Sequence> sequences, const Job& job)
      : sequences_(sequences),
        chunk_(job.options.prefill_chunk),
        sampler_(backend, job.options.sampling, job.vocabulary),
        session_(backend, model.config, model.parameters.tree(),
                 {.sequences = static_cast<std::int64_t>(sequences.size()),
                  .capacity = capacity(sequences),
                  .max_tokens = std::min(chunk_, prompt_tokens(sequences))}) {}

  // Both return how many tokens were fed; 0: nothing left to do. A prompt is cut at multiples of the chunk
  // whatever its neighbours are, so that its bits are its own; prompts fill a call in order.
  std::int64_t prefill() {
    std::int64_t total = 0;
    return step([&](const Sequence& s) {
      const auto count = s.started() ? 0 : std::min(s.unfed(), chunk_);
      if (total + count > session_.max_tokens()) return std::int64_t{0};
      total += count;
      return count;
    });
  }
  std::int64_t decode() {
    return step([](const Sequence& s) { return s.done() ? std::int64_t{0} : s.unfed(); });
  }

 private:
  static std::int64_t capacity(std::span<const Sequence> sequences) {
    std::int64_t most = 1;
    for (const auto& s : sequences) most = std::max(most, s.limit());
    return most;
  }

  static std::int64_t prompt_tokens(std::span<const Sequence> sequences) {
    std::int64_t all = 0;
    for (const auto& s : sequences) all += s.unfed();
    return all;
  }

  template <class Count>
  std::int64_t step(Count&& count) {
    std::vector<std::vector<TokenId>> tokens;
    std::int64_t total = 0;
    for (auto& s : sequences_) {
      tokens.push_back(s.feed(count(s)));
      total += static_cast<std::int64_t>(tokens.back().size());
    }
    if (total == 0) return 0;
    draw(session_.extend_in_place(tokens), tokens);
    return total;
  }

  // Extends the sequences that got tokens, a row of logits each, and wait for no more of their prompt.
  void draw(const ConstTensor& logits, const std::vector<std::vector<TokenId>>& tokens) {
    std::vector<Draw> draws;
    std::vector<Sequence*> drawing;  // null: what its row gives is not wanted yet
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i].empty()) continue;
      const bool ready = sequences_[i].unfed() == 0;
      draws.push_back(ready ? sequences_[i].next() : Draw{});
      drawing.push_back(ready ? &sequences_[i] : nullptr);
    }
    if (std::ranges::all_of(drawing, [](const Sequence* s) { return s == nullptr; })) return;
    const auto ids = sampler_.draw(logits, draws);
    for (std::size_t row = 0; row < ids.size(); ++row) {
      if (drawing[row] != nullptr) drawing[row]->extend(ids[row]);
    }
  }

  std::span<Sequence> sequences_;
  std::int64_t chunk_;
  Sampler sampler_;
  model::Session session_;
};

void check(const GenerationOptions& o) {
  validate(o.sampling);
  require(o.max_new_tokens >= 1, "max_new_tokens {} must be positive", o.max_new_tokens);
  require(o.context >= 0, "context {} must be 0 (the model's) or positive", o.context);
  require(o.batch >= 1, "batch {} must be positive", o.batch);
  require(o.prefill_chunk >= 1, "prefill_chunk {} must be positive", o.prefill_chunk);
}

// What a prompt without tokens starts from.
std::vector<TokenId> prompt_ids(std::vector<TokenId> ids, const model::Model& model, const Job& job) {
  if (!ids.empty()) return ids;
  require(model.config.bos_id || !job.eos.empty(),
          "an empty prompt needs a bos_token_id or an end of text to start from: give a prompt");
  return {static_cast<TokenId>(model.config.bos_id ? *model.config.bos_id : job.eos.front())};
}

void run(Group& group, GenerationStatistics& statistics) {
  const auto start = Clock::now();
  while (const auto fed = group.prefill()) statistics.prefill_tokens += fed;
  statistics.prefill_seconds += seconds_since(start);
  const auto decoding = Clock::now();
  while (const auto fed = group.decode()) statistics.decode_tokens += fed;
  statistics.decode_seconds += seconds_since(decoding);
}

}  // namespace

std::string_view name_of(FinishReason reason) {
  constexpr std::string_view names[] = {"length", "end_of_text", "stop_string"};
  return names[static_cast<std::size_t>(reason)];
}

std::vector<std::int64_t> end_of_text_ids(const model::ModelConfig& config,
                                          const text::Tokenizer& tokenizer) {
  if (!config.eos_ids.empty()) return config.eos_ids;
  const auto id = tokenizer.end_of_text();
  return id ? std::vector<std::int64_t>{*id} : std::vector<std::int64_t>{};
}

GenerationResult generate(const Backend& backend, const model::Model& model, const text::Tokenizer& tokenizer,
                          const std::vector<std::string>& prompts, const GenerationOptions& options,
                          const TextFunction& on_text) {
  std::vector<std::vector<TokenId>> ids;
  for (const auto& prompt : prompts) ids.push_back(tokenizer.encode(prompt));
  return generate_from_ids(backend, model, tokenizer, ids, options, on_text);
}

GenerationResult generate_from_ids(const Backend& backend, const model::Model& model,
                                   const text::Tokenizer& tokenizer,
                                   const std::vector<std::vector<TokenId>>& prompts,
                                   const GenerationOptions& options, const TextFunction& on_text) {
  check(options);
  const Job job{.tokenizer = tokenizer,
                .options = options,
                .on_text = on_text,
                .eos = end_of_text_ids(model.config, tokenizer),
                .context = options.context != 0 ? options.context : model.config.max_positions,
                .vocabulary = std::min(model.config.vocabulary_size, tokenizer.vocabulary_size())};
  std::vector<Sequence> sequences;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    auto ids = prompt_ids(prompts[i], model, job);
    require(static_cast<std::int64_t>(ids.size()) < job.context,
            "prompt {} has {} tokens, which leaves no room in a context of {}: shorten it or raise context",
            i, ids.size(), job.context);
    sequences.emplace_back(job, i, std::move(ids));
  }
  GenerationResult result;
  const auto batch = static_cast<std::size_t>(options.batch);
  for (std::size_t first = 0; first < sequences.size(); first += batch) {
    const auto count = std::min(batch, sequences.size() - first);
    Group group(backend, model, std::span(sequences).subspan(first, count), job);
    run(group, result.statistics);
  }
  for (auto& s : sequences) result.sequences.push_back(s.take());
  return result;
}

}  // namespace braid::infer
