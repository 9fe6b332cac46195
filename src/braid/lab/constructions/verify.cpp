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

  std::int64_t tokens() const {
    std::int64_t sum = 0;
    for (const auto& text : texts) sum += static_cast<std::int64_t>(text.ids.size());
    return sum;
  }
  std::size_t longest() const {
    std::size_t longest = 0;
    for (const auto& text : texts) longest = std::max(longest, text.ids.size());
    return longest;
  }
};

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
           Verification& result)
      : backend_(backend), construction_(construction), model_(model), result_(result) {}

  void run(const Batch& batch) {
    for (const auto& text : batch.texts) {
      for (const auto id : text.ids) {
        require(id >= 0 && id < words(),
                "{}: its text has token {}, the model's vocabulary_size is {}: it was built for another n",
                construction_.name(), id, words());
      }
    }
    wrong_.assign(batch.texts.size(), false);
    forward(batch);
    session_for(batch);
    prefill(batch);
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

  // All answers of a batch from the logits of its every token, one text behind the other.
  void judge_all(PathScore& score, const Batch& batch, const float* logits) {
    for (std::size_t t = 0; t < batch.texts.size(); ++t) {
      const auto& [ids, predicts] = batch.texts[t];
      for (std::size_t i = 0; i < predicts.size(); ++i)
        judge_text(score, batch, t, i, logits + predicts[i] * words());
      logits += static_cast<std::int64_t>(ids.size()) * words();
    }
  }

  void forward(const Batch& batch) {
    std::vector<std::int32_t> ids, positions, offsets{0};
    for (const auto& text : batch.texts) {
      for (std::size_t i = 0; i < text.ids.size(); ++i) positions.push_back(static_cast<std::int32_t>(i));
      ids.insert(ids.end(), text.ids.begin(), text.ids.end());
      offsets.push_back(static_cast<std::int32_t>(ids.size()));
    }
    const auto work = [&](Context& ctx, Arena& step) {
      const auto dtype = backend_.activation_dtype(model_.parameters.tree().embedding.dtype);
      const auto longest = static_cast<std::int64_t>(batch.longest());
      const auto policy = model::make_policy(ctx, step, model_.config, longest, dtype);
      const auto inputs = model::HostBatch{ids, {}, positions, offsets}.upload(ctx, step);
      const Tensor logits = step.make(accumulator_of(dtype), {batch.tokens(), words()});
      model::compute_logits(ctx, step, logits, model_.parameters.tree(), policy, inputs);
      if (ctx.device == Device::dry) return;
      judge_all(result_.forward, batch, to_host<float>(*ctx.memory, logits).data());
    };
    memory_.grow(backend_, work);
    memory_.run(backend_, work);
  }

  // One session serves all batches of as many texts and no more tokens.
  void session_for(const Batch& batch) {
    const model::SessionOptions wanted{.sequences = static_cast<std::int64_t>(batch.texts.size()),
                                       .capacity = static_cast<std::int64_t>(batch.longest()),
                                       .max_tokens = batch.tokens()};
    const bool fits = session_ != nullptr && wanted.sequences == options_.sequences &&
                      wanted.capacity <= options_.capacity && wanted.max_tokens <= options_.max_tokens;
    if (!fits) {
      session_ = nullptr;  // frees its memory first
      options_ = wanted;
      session_ = std::make_unique<model::Session>(backend_, model_.config, model_.parameters.tree(), wanted);
    }
    for (std::int64_t s = 0; s < options_.sequences; ++s) session_->reset(s);
  }

  void prefill(const Batch& batch) {
    std::vector<std::vector<std::int32_t>> ids;
    bool last_only = true;
    for (const auto& text : batch.texts) {
      ids.push_back(text.ids);
      last_only = last_only && text.predicts.size() == 1 &&
                  text.predicts[0] + 1 == static_cast<std::int64_t>(text.ids.size());
    }
    const auto logits = session_->extend(ids, last_only ? model::LogitRows::last : model::LogitRows::all);
    if (!last_only) return judge_all(result_.prefill, batch, logits.as<float>());
    for (std::size_t t = 0; t < ids.size(); ++t) {
      judge_text(result_.prefill, batch, t, 0, logits.as<float>() + static_cast<std::int64_t>(t) * words());
    }
  }

  void steps(const Batch& batch) {
    std::vector<std::size_t> next(batch.texts.size(), 0);  // answer of each text
    std::vector<std::vector<std::int32_t>> tokens(batch.texts.size());
    for (std::size_t i = 0; i < batch.longest(); ++i) {
      for (std::size_t t = 0; t < tokens.size(); ++t) {
        const auto& ids = batch.texts[t].ids;
        tokens[t].assign(i < ids.size() ? 1 : 0, i < ids.size() ? ids[i] : 0);
      }
      const float* row = session_->extend(tokens).as<float>();
      for (std::size_t t = 0; t < tokens.size(); ++t) {
        const auto& predicts = batch.texts[t].predicts;
        if (tokens[t].empty()) continue;
        if (next[t] < predicts.size() && predicts[next[t]] == static_cast<std::int64_t>(i)) {
          judge_text(result_.steps, batch, t, next[t]++, row);
        }
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
  Verifier verifier(backend, construction, model, result);
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
    const auto next = batch.tokens() + static_cast<std::int64_t>(last.ids.size());
    if (next <= options.batch_tokens && i + 1 < total) continue;
    verifier.run(batch);
    result.instances += static_cast<std::int64_t>(batch.texts.size());
    result.tokens += batch.tokens();
    batch = {};
    if (options.progress) options.progress(i + 1, total);
  }
  return result;
}

}  // namespace braid::lab
