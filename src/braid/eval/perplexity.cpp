#include "braid/eval/perplexity.h"

#include <algorithm>
#include <cmath>

#include "braid/data/text_bytes.h"
#include "braid/model/host_batch.h"
#include "braid/model/work_memory.h"

namespace braid::eval {
namespace {

using Ids = std::vector<std::int32_t>;

// Runs batches in memory planned for the largest one so far.
class Scorer {
 public:
  Scorer(const Backend& backend, const model::Model& model) : backend_(backend), model_(model) {}

  // Adds the losses, one by one in their order, to `total`.
  void add_losses(TextLoss& total, const PerplexityOptions& options, const Ids& ids, const Ids& targets,
                  const Ids& positions, const Ids& offsets) {
    plan(ids.size(), offsets.size());
    memory_.run(backend_, [&](Context& ctx, Arena& step) {
      const Tensor there = score(ctx, step, ids, targets, positions, offsets);
      const auto losses = to_host<float>(*ctx.memory, there);
      for (std::size_t i = 0; i < losses.size(); ++i) {
        if (targets[i] < 0) continue;
        total.nll_sum += losses[i];
        if (options.position_parts > 0) add_to_part(total, options, positions[i], losses[i]);
      }
    });
  }

 private:
  static void add_to_part(TextLoss& total, const PerplexityOptions& o, std::int64_t position, float loss) {
    const auto parts = static_cast<std::size_t>(o.position_parts);
    total.part_nll.resize(parts), total.part_tokens.resize(parts);
    const auto part = static_cast<std::size_t>(position * o.position_parts / o.context);
    total.part_nll[part] += loss;
    ++total.part_tokens[part];
  }
  void plan(std::size_t tokens, std::size_t offsets) {
    if (tokens <= tokens_ && offsets <= offsets_) return;
    tokens_ = std::max(tokens, tokens_);
    offsets_ = std::max(offsets, offsets_);
    const Ids ids(tokens_), ends(offsets_);
    memory_ = {};
    memory_ = model::WorkMemory(backend_,
                                [&](Context& ctx, Arena& step) { score(ctx, step, ids, ids, ids, ends); });
  }
  Tensor score(Context& ctx, Arena& step, const Ids& ids, const Ids& targets, const Ids& positions,
               const Ids& offsets) const {
    // Rotary tables reach to the longest segment, which is at most all tokens.
    const auto n = static_cast<std::int64_t>(ids.size());
    const DType activations = backend_.activation_dtype(model_.parameters.tree().embedding.dtype);
    const auto policy = model::make_policy(ctx, step, model_.config, n, activations);
    const auto batch = model::HostBatch{ids, targets, positions, offsets}.upload(ctx, step);
    const model::TokenLosses losses{step.make(DType::f32, {n}), step.make(DType::f32, {n})};
    model::score(ctx, step, losses, model_.parameters.tree(), policy, batch);
    return losses.loss;
  }

  const Backend& backend_;
  const model::Model& model_;
  model::WorkMemory memory_;
  std::size_t tokens_ = 0, offsets_ = 0;
};

PerplexityOptions checked(PerplexityOptions o) {
  require(o.context >= 2, "context {} must be at least 2 tokens", o.context);
  require(o.position_parts >= 0 && o.position_parts <= o.context,
          "{} position parts do not divide a context of {}", o.position_parts, o.context);
  o.batch_tokens = std::max(o.batch_tokens, o.context);
  return o;
}

}  // namespace

double TextLoss::loss() const {
  require(tokens > 0, "nothing was scored: no token to predict");
  return nll_sum / static_cast<double>(tokens);
}

double TextLoss::perplexity() const { return std::exp(loss()); }
double TextLoss::bits_per_byte() const { return data::bits_per_byte(nll_sum, text_bytes); }

TextLoss& TextLoss::operator+=(const TextLoss& other) {
  nll_sum += other.nll_sum;
  tokens += other.tokens;
  text_bytes += other.text_bytes;
  documents += other.documents;
  instances += other.instances;
  part_nll.resize(std::max(part_nll.size(), other.part_nll.size()));
  part_tokens.resize(part_nll.size());
  for (std::size_t i = 0; i < other.part_nll.size(); ++i) {
    part_nll[i] += other.part_nll[i];
    part_tokens[i] += other.part_tokens[i];
  }
  return *this;
}

struct DocumentScorer::State {
  const text::Tokenizer& tokenizer;
  PerplexityOptions options;
  std::int32_t end_of_text;
  Scorer scorer;
  Ids ids{}, targets{}, positions{}, offsets{0};
  TextLoss total{};

  // Windows are kept in order; a batch is scored when the next one does not fit.
  void add_window(std::span<const std::int32_t> inputs, std::span<const std::int32_t> outputs) {
    if (static_cast<std::int64_t>(ids.size() + inputs.size()) > options.batch_tokens) flush();
    ids.insert(ids.end(), inputs.begin(), inputs.end());
    targets.insert(targets.end(), outputs.begin(), outputs.end());
    for (std::size_t i = 0; i < inputs.size(); ++i) positions.push_back(static_cast<std::int32_t>(i));
    offsets.push_back(static_cast<std::int32_t>(ids.size()));
    if (static_cast<std::int64_t>(offsets.size()) > max_segments(options)) flush();
  }
  void flush() {
    if (ids.empty()) return;
    scorer.add_losses(total, options, ids, targets, positions, offsets);
    ids.clear(), targets.clear(), positions.clear(), offsets = {0};
  }
  // Each window costs a few recurrent states, however short it is.
  static std::int64_t max_segments(const PerplexityOptions& o) {
    return std::max<std::int64_t>(o.batch_tokens / 64, 1);
  }
};

DocumentScorer::DocumentScorer(const Backend& backend, const model::Model& model,
                               const text::Tokenizer& tokenizer, PerplexityOptions options) {
  const auto o = checked(options);
  const auto end = tokenizer.end_of_text();
  require(end.has_value(),
          "the tokenizer has no end of text, from which a document's first token is predicted");
  require(
      *end < model.config.vocabulary_size,
      "the tokenizer's end of text {} is outside the model's vocabulary of {}: they do not belong together",
      *end, model.config.vocabulary_size);
  state_.reset(new State{tokenizer, o, *end, Scorer(backend, model)});
}

DocumentScorer::~DocumentScorer() = default;

void DocumentScorer::add(std::string_view text) {
  auto& s = *state_;
  Ids ids{s.end_of_text};
  for (const auto id : s.tokenizer.encode(text)) ids.push_back(id);
  ids.push_back(s.end_of_text);
  const auto predicted = ids.size() - 1, context = static_cast<std::size_t>(s.options.context);
  for (std::size_t first = 0; first < predicted; first += context) {
    const auto count = std::min(context, predicted - first);
    s.add_window(std::span(ids).subspan(first, count), std::span(ids).subspan(first + 1, count));
  }
  s.total.tokens += static_cast<std::int64_t>(predicted);
  s.total.text_bytes += static_cast<std::int64_t>(text.size());
  ++s.total.documents;
}

TextLoss DocumentScorer::finish() {
  state_->flush();
  return state_->total;
}

TextLoss score_instances(const Backend& backend, const model::Model& model, const data::Dataset& dataset,
                         data::BatchOptions batch_options, PerplexityOptions options,
                         const text::Tokenizer* tokenizer) {
  options.context = dataset.sequence_length();
  const auto o = checked(options);
  const auto rows = std::min(o.batch_tokens / o.context, std::max<std::int64_t>(dataset.size(), 1));
  Scorer scorer(backend, model);
  const auto bytes = tokenizer != nullptr ? data::token_bytes(*tokenizer) : std::vector<std::int32_t>{};
  TextLoss total;
  for (std::int64_t first = 0; first < dataset.size(); first += rows) {
    const auto batch = data::assemble_sequential(dataset, first, rows, batch_options);
    scorer.add_losses(total, o, batch.ids, batch.targets, batch.positions, batch.segment_offsets);
    total.tokens += batch.predicted;
    total.instances += batch.instances;
    if (tokenizer != nullptr) total.text_bytes += data::text_bytes(batch.targets, bytes);
  }
  return total;
}

}  // namespace braid::eval
