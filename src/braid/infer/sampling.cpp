#include "braid/infer/sampling.h"

#include <cmath>
#include <limits>

#include "braid/core/error.h"
#include "braid/core/random.h"
#include "braid/model/host_batch.h"

namespace braid::infer {
namespace {

// Says what is wrong with a row for which there was no id.
[[noreturn]] void fail_on(Memory& memory, const ConstTensor& row, std::int32_t id) {
  require(id != ops::kAllImpossible, "sampling: every token's logit is -infinity");
  std::vector<float> logits(static_cast<std::size_t>(row.count()));
  memory.read(logits.data(), row.data, row.bytes());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    require(!std::isnan(logits[i]) && logits[i] != std::numeric_limits<float>::infinity(),
            "sampling: logit of token {} is {}: the model's output is broken", i, logits[i]);
  }
  fail("sampling: no token could be drawn ({})", id);
}

}  // namespace

void validate(const SamplingOptions& o) {
  require(o.temperature >= 0 && std::isfinite(o.temperature), "temperature {} must be 0 (greedy) or positive",
          o.temperature);
  require(o.top_k >= 0, "top_k {} must be 0 (all) or positive", o.top_k);
  require(o.top_p > 0 && o.top_p <= 1, "top_p {} must lie in (0, 1]", o.top_p);
  require(o.min_p >= 0 && o.min_p <= 1, "min_p {} must lie in [0, 1]", o.min_p);
  require(o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty),
          "repetition_penalty {} must be positive", o.repetition_penalty);
}

Sampler::Sampler(const Backend& backend, const SamplingOptions& options, std::int64_t vocabulary)
    : backend_(backend), options_(options), vocabulary_(vocabulary) {
  validate(options);
}

std::vector<std::int32_t> Sampler::draw(const ConstTensor& logits, std::span<const Draw> rows) {
  std::vector<double> uniform;
  std::vector<std::int32_t> seen, offsets{0};
  for (const Draw& row : rows) {
    uniform.push_back(Random(options_.seed, row.stream, row.index).uniform());
    if (options_.repetition_penalty != 1) seen.insert(seen.end(), row.seen.begin(), row.seen.end());
    offsets.push_back(static_cast<std::int32_t>(seen.size()));
  }
  const auto same = [&](auto value) { return std::vector(rows.size(), value); };
  std::vector<std::int32_t> ids(rows.size());
  const auto work = [&](Context& ctx, Arena& arena) {
    const Tensor drawn = arena.make(DType::i32, {static_cast<std::int64_t>(rows.size())});
    const auto [where, temperature, top_k, top_p, min_p, penalty, all_seen, segments] =
        model::upload_together(ctx, arena, uniform, same(options_.temperature), same(options_.top_k),
                               same(options_.top_p), same(options_.min_p), same(options_.repetition_penalty),
                               seen, offsets);
    const ops::SamplingInputs in{.logits = logits,
                                 .uniform = where,
                                 .temperature = temperature,
                                 .top_k = top_k,
                                 .top_p = top_p,
                                 .min_p = min_p,
                                 .repetition_penalty = penalty,
                                 .seen = all_seen,
                                 .seen_segments = {segments}};
    ops::sampling(ctx, drawn, in, {.vocabulary = vocabulary_});
    if (drawn.data != nullptr) ctx.memory->read(ids.data(), drawn.data, drawn.bytes());
  };
  memory_.grow(backend_, work);
  memory_.run(backend_, work);
  for (std::size_t s = 0; s < ids.size(); ++s) {
    if (ids[s] >= 0) continue;
    const auto count = vocabulary_ != 0 ? vocabulary_ : logits.shape[1];
    ConstTensor row = rows_of(logits, static_cast<std::int64_t>(s), 1);
    row.shape = {count};
    fail_on(*backend_.memory, row, ids[s]);
  }
  return ids;
}

}  // namespace braid::infer
