#include "braid/infer/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "braid/core/error.h"
#include "braid/core/random.h"

namespace braid::infer {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

struct Scored {
  std::int32_t id;
  double logit;
};

// Best first; equal logits by id, so that the order is total.
bool better(const Scored& a, const Scored& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; }

std::vector<Scored> penalized(std::span<const float> logits, std::span<const std::int32_t> seen,
                              double penalty) {
  std::vector<Scored> scored(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    require(!std::isnan(logits[i]) && logits[i] != std::numeric_limits<float>::infinity(),
            "sampling: logit of token {} is {}: the model's output is broken", i, logits[i]);
    scored[i] = {static_cast<std::int32_t>(i), logits[i]};
  }
  if (penalty == 1) return scored;
  for (const auto id : seen) {
    if (id < 0 || static_cast<std::size_t>(id) >= scored.size()) continue;
    // From the original logit: a token seen twice is penalised once.
    const double x = logits[static_cast<std::size_t>(id)];
    scored[static_cast<std::size_t>(id)].logit = x > 0 ? x / penalty : x * penalty;
  }
  return scored;
}

// Drops what the filters drop from a list ordered best first; the best token always stays.
void keep_top_k(std::vector<Scored>& tokens, std::int64_t k) {
  if (k == 0 || k >= static_cast<std::int64_t>(tokens.size())) return;
  const double last = tokens[static_cast<std::size_t>(k - 1)].logit;
  while (tokens.back().logit < last) tokens.pop_back();
}

std::vector<Candidate> softmax(const std::vector<Scored>& tokens, double temperature) {
  std::vector<Candidate> out;
  double sum = 0;
  for (const auto& t : tokens) {
    out.push_back({t.id, std::exp((t.logit - tokens[0].logit) / temperature)});
    sum += out.back().probability;
  }
  for (auto& c : out) c.probability /= sum;
  return out;
}

void renormalize(std::vector<Candidate>& tokens) {
  double sum = 0;
  for (const auto& c : tokens) sum += c.probability;
  for (auto& c : tokens) c.probability /= sum;
}

void keep_top_p(std::vector<Candidate>& tokens, double p) {
  if (p >= 1) return;
  std::size_t kept = 0;
  for (double sum = 0; kept < tokens.size() && (kept == 0 || sum < p); ++kept)
    sum += tokens[kept].probability;
  tokens.resize(kept);
  renormalize(tokens);
}

void keep_min_p(std::vector<Candidate>& tokens, double p) {
  if (p <= 0) return;
  const double least = p * tokens[0].probability;
  while (tokens.back().probability < least) tokens.pop_back();
  renormalize(tokens);
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

std::vector<Candidate> candidates(std::span<const float> logits, std::span<const std::int32_t> seen,
                                  const SamplingOptions& options) {
  validate(options);
  require(!logits.empty(), "sampling: no logits");
  auto scored = penalized(logits, seen, options.repetition_penalty);
  if (options.temperature == 0) {
    const auto best = *std::ranges::min_element(scored, better);
    require(best.logit > kNever, "sampling: every token's logit is -infinity");
    return {{best.id, 1}};
  }
  std::erase_if(scored, [](const Scored& s) { return s.logit == kNever; });
  require(!scored.empty(), "sampling: every token's logit is -infinity");
  std::ranges::sort(scored, better);
  keep_top_k(scored, options.top_k);
  auto tokens = softmax(scored, options.temperature);
  keep_top_p(tokens, options.top_p);
  keep_min_p(tokens, options.min_p);
  return tokens;
}

std::int32_t sample_token(std::span<const float> logits, std::span<const std::int32_t> seen,
                          const SamplingOptions& options, std::uint64_t stream, std::uint64_t index) {
  const auto tokens = candidates(logits, seen, options);
  const double u = Random(options.seed, stream, index).uniform();
  double sum = 0;
  for (const auto& c : tokens) {
    sum += c.probability;
    if (u < sum) return c.id;
  }
  return tokens.back().id;  // u fell into the rounding error of the sum
}

}  // namespace braid::infer
