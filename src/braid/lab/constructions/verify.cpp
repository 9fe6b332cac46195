#include "braid/lab/constructions/verify.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "braid/model/session.h"
#include "braid/model/work_memory.h"

namespace braid::lab {
namespace {

// Texts that go through the model together, and what the solver says of them.
struct Batch {
  std::vector<Reading> texts;
  std::vector<std::vector<std::int32_t>> answers;
  std::vector<Example> examples;

  std::int64_t length(std::size_t text) const { return std::ssize(texts[text].ids); }
  std::int64_t tokens() const {
    std::int64_t sum = 0;
    for (std::size_t t = 0; t < texts.size(); ++t) sum += length(t);
    return sum;
  }
};

// Some of a batch's texts, in their order.
struct Part {
  std::size_t begin = 0, end = 0;
  std::int64_t tokens = 0, longest = 0;
};

std::vector<Part> parts_of(const Batch& batch, std::int64_t most_tokens) {
  std::vector<Part> parts;
  for (std::size_t t = 0; t < batch.texts.size(); ++t) {
    const auto length = batch.length(t);
    if (parts.empty() || parts.back().tokens + length > most_tokens) parts.push_back({.begin = t});
    auto& part = parts.back();
    part.end = t + 1;
    part.tokens += length;
    part.longest = std::max(part.longest, length);
  }
  return parts;
}

// Adds the answer that a row of logits gives; true: the right one.
bool judge(PathScore& score, const float* logits, std::int64_t words, std::int32_t want) {
  float best_other = -std::numeric_limits<float>::infinity(), largest = 0;
  bool finite = true;
  for (std::int64_t i = 0; i < words; ++i) {
    finite = finite && std::isfinite(logits[i]);
    largest = std::max(largest, std::abs(logits[i]));
    if (i != want) best_other = std::max(best_other, logits[i]);
  }
  const bool right = finite && logits[want] > best_other;
  const double lead = (static_cast<double>(logits[want]) - best_other) / std::max(largest, 1e-30f);
  score.margin = std::min(score.margin, finite ? lead : -1.0);
  ++score.answers;
  score.right += right ? 1 : 0;
  return right;
}

class Verifier {
 public:
  Verifier(const Backend& backend, const Construction& construction, const model::Model& model,
           std::int64_t batch_tokens, Verification& result)
      : backend_(backend),
        construction_(construction),
        model_(model),
        batch_tokens_(batch_tokens),
        result_(result) {}

  void run(const Batch& batch) {
    for (const auto& text : batch.texts) {
      for (const auto id : text.ids) {
        require(id >= 0 && id < words(),
                "{}: its text has token {}, the model's vocabulary_size is {}: it was built for another n",
                construction_.name(), id, words());
      }
    }
    wrong_.assign(batch.texts.size(), false);
    const auto parts = parts_of(batch, batch_tokens_);
    for (const auto& part : parts) forward(batch, part);
    session_for(batch, parts);
    for (const auto& part : parts) prefill(batch, part);
    for (std::size_t s = 0; s < batch.texts.size(); ++s) session_->reset(static_cast<std::int64_t>(s));
    steps(batch);
    const auto first = std::ranges::find(wrong_, true);
    if (first == wrong_.end() || !result_.first_wrong.empty()) return;
    result_.first_wrong = text_of(batch.examples[static_cast<std::size_t>(first - wrong_.begin())]);
  }

 private:
  std::int64_t words() const { return model_.config.vocabulary_size; }

  void judge_text(PathScore& score, const Batch& batch, std::size_t text, std::size_t answer,
                  const float* logits) {
    if (!judge(score, logits, words(), batch.answers[text][answer])) wrong_[text] = true;
  }

  // All answers of a part. `row_of(text, token)`: the row of the token's logits; the texts are asked in
  // order.
  template <class RowOf>
  void judge_part(PathScore& score, const Batch& batch, const Part& part, const float* logits,
                  RowOf&& row_of) {
    for (auto t = part.begin; t < part.end; ++t) {
      const auto& predicts = batch.texts[t].predicts;
      for (std::size_t i = 0; i < predicts.size(); ++i)
        judge_text(score, batch, t, i, logits + row_of(t, predicts[i]) * words());
    }
  }

  // Logits of the tokens that predict, and of no others.
  void forward(const Batch& batch, const Part& part) {
    std::vector<std::int32_t> ids, positions, offsets{0}, asked;
    for (auto t = part.begin; t < part.end; ++t) {
      const auto& text = batch.texts[t];
      for (const auto at : text.predicts) asked.push_back(offsets.back() + static_cast<std::int32_t>(at));
      for (std::size_t i = 0; i < text.ids.size(); ++i) positions.push_back(static_cast<std::int32_t>(i));
      ids.insert(ids.end(), text.ids.begin(), text.ids.end());
      offsets.push_back(static_cast<std::int32_t>(ids.size()));
    }
    const auto work = [&](Context& ctx, Arena& step) {
      const auto dtype = backend_.activation_dtype(model_.parameters.tree().embedding.dtype);
      const auto policy = model::make_policy(ctx, step, model_.config, part.longest, dtype);
      const auto inputs = model::HostBatch{ids, {}, positions, offsets}.upload(ctx, step);
      const auto rows = model::upload(ctx, step, asked);
      const Tensor logits = step.make(accumulator_of(dtype), {rows.shape[0], words()});
      model::compute_logits(ctx, step, logits, model_.parameters.tree(), policy, inputs, rows);
      if (ctx.device == Device::dry) return;
      std::int64_t next = 0;
      judge_part(result_.forward, batch, part, to_host<float>(*ctx.memory, logits).data(),
                 [&](std::size_t, std::int64_t) { return next++; });
    };
    memory_.grow(backend_, work);
    memory_.run(backend_, work);
  }

  // One session serves all batches of as many texts and no more tokens.
  void session_for(const Batch& batch, const std::vector<Part>& parts) {
    model::SessionOptions wanted{.sequences = std::ssize(batch.texts), .capacity = 1, .max_tokens = 1};
    for (const auto& part : parts) {
      wanted.capacity = std::max(wanted.capacity, part.longest);
      wanted.max_tokens = std::max(wanted.max_tokens, part.tokens);
    }
    const bool fits = session_ != nullptr && wanted.sequences == options_.sequences &&
                      wanted.capacity <= options_.capacity && wanted.max_tokens <= options_.max_tokens;
    if (!fits) {
      session_ = nullptr;  // frees its memory first
      options_ = wanted;
      session_ = std::make_unique<model::Session>(backend_, model_.config, model_.parameters.tree(), wanted);
    }
    for (std::int64_t s = 0; s < options_.sequences; ++s) session_->reset(s);
  }

  // Each text in one call.
  void prefill(const Batch& batch, const Part& part) {
    std::vector<std::vector<std::int32_t>> ids(batch.texts.size());
    bool last_only = true;
    for (auto t = part.begin; t < part.end; ++t) {
      const auto& predicts = batch.texts[t].predicts;
      ids[t] = batch.texts[t].ids;
      last_only = last_only && predicts.size() == 1 && predicts[0] + 1 == batch.length(t);
    }
    const auto logits = session_->extend(ids, last_only ? model::LogitRows::last : model::LogitRows::all);
    std::vector<std::int64_t> first(batch.texts.size(), 0);  // row of each text
    for (auto t = part.begin; t + 1 < part.end; ++t)
      first[t + 1] = first[t] + (last_only ? 1 : batch.length(t));
    judge_part(result_.prefill, batch, part, logits.as<float>(),
               [&](std::size_t t, std::int64_t token) { return first[t] + (last_only ? 0 : token); });
  }

  // Logits at the places where some text predicts.
  void steps(const Batch& batch) {
    std::vector<std::size_t> next(batch.texts.size(), 0);  // answer of each text
    std::vector<std::vector<std::int32_t>> tokens(batch.texts.size());
    for (std::int64_t i = 0; i < options_.capacity; ++i) {
      bool any = false, asked = false;
      const auto predicts = [&](std::size_t t) {
        const auto& all = batch.texts[t].predicts;
        return next[t] < all.size() && all[next[t]] == i;
      };
      for (std::size_t t = 0; t < tokens.size(); ++t) {
        const bool more = i < batch.length(t);
        tokens[t].assign(more ? 1 : 0, more ? batch.texts[t].ids[static_cast<std::size_t>(i)] : 0);
        any = any || more;
        asked = asked || predicts(t);
      }
      if (!any) return;
      const auto logits = session_->extend(tokens, asked ? model::LogitRows::last : model::LogitRows::none);
      if (!asked) continue;
      const float* row = logits.as<float>();
      for (std::size_t t = 0; t < tokens.size(); ++t) {
        if (tokens[t].empty()) continue;
        if (predicts(t)) judge_text(result_.steps, batch, t, next[t]++, row);
        row += words();
      }
    }
  }

  std::string text_of(const Example& example) const {
    std::string text;
    for (const auto id : example.ids) {
      text += (text.empty() ? "" : " ") + construction_.problem().vocabulary(Form::tokens).word(id);
    }
    return text;
  }

  const Backend& backend_;
  const Construction& construction_;
  const model::Model& model_;
  std::int64_t batch_tokens_;
  Verification& result_;
  model::WorkMemory memory_;
  model::SessionOptions options_;
  std::unique_ptr<model::Session> session_;
  std::vector<bool> wrong_;  // texts of this batch
};

}  // namespace

Verification verify(const Backend& backend, const Construction& construction, const model::Model& model,
                    std::int64_t built_for, std::int64_t n, const VerifyOptions& options) {
  const bool all = options.instances == Instances::exhaustive;
  const auto total = all ? construction.count(n, 10'000'000) : options.count;
  Verification result;
  Verifier verifier(backend, construction, model, options.batch_tokens, result);
  Batch batch;
  for (std::int64_t i = 0; i < total; ++i) {
    Example example = all ? construction.numbered(n, i)
                          : construction.example(n, options.seed, static_cast<std::uint64_t>(i));
    batch.texts.push_back(construction.read(built_for, example));
    batch.answers.push_back(construction.problem().solve(Form::tokens, example.ids));
    batch.examples.push_back(std::move(example));
    const auto& last = batch.texts.back();
    require(batch.answers.back().size() == last.predicts.size(),
            "{}: {} answers are predicted, the solver gives {}", construction.name(), last.predicts.size(),
            batch.answers.back().size());
    const bool full =
        std::ssize(batch.texts) >= options.batch_texts && batch.tokens() >= options.batch_tokens;
    if (!full && i + 1 < total) continue;
    verifier.run(batch);
    result.instances += static_cast<std::int64_t>(batch.texts.size());
    result.tokens += batch.tokens();
    batch = {};
    if (options.progress) options.progress(i + 1, total);
  }
  return result;
}

}  // namespace braid::lab
