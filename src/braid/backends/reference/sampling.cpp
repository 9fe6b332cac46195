#include "braid/backends/reference/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "braid/backends/reference/reference.h"
#include "braid/backends/reference/scalar.h"

namespace braid::reference {
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
  for (std::size_t i = 0; i < logits.size(); ++i) scored[i] = {static_cast<std::int32_t>(i), logits[i]};
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

std::int32_t draw(std::span<const float> logits, std::span<const std::int32_t> seen, const SamplingRow& row,
                  double uniform) {
  for (const float x : logits) {
    if (std::isnan(x) || x == std::numeric_limits<float>::infinity()) return ops::kNotANumber;
  }
  const auto tokens = candidates(logits, seen, row);
  if (tokens.empty()) return ops::kAllImpossible;
  double sum = 0;
  for (const auto& c : tokens) {
    sum += c.probability;
    if (uniform < sum) return c.id;
  }
  return tokens.back().id;  // uniform fell into the rounding error of the sum
}

}  // namespace

std::vector<Candidate> candidates(std::span<const float> logits, std::span<const std::int32_t> seen,
                                  const SamplingRow& row) {
  auto scored = penalized(logits, seen, row.repetition_penalty);
  if (row.temperature == 0) {
    const auto best = *std::ranges::min_element(scored, better);
    if (best.logit == kNever) return {};
    return {{best.id, 1}};
  }
  std::erase_if(scored, [](const Scored& s) { return s.logit == kNever; });
  if (scored.empty()) return {};
  std::ranges::sort(scored, better);
  keep_top_k(scored, row.top_k);
  auto tokens = softmax(scored, row.temperature);
  keep_top_p(tokens, row.top_p);
  keep_min_p(tokens, row.min_p);
  return tokens;
}

void sampling(Context&, Tensor ids, ops::SamplingInputs in, ops::SamplingOptions options) {
  require_segments("sampling", in.seen_segments, in.seen.shape[0]);
  const auto at = [](const ConstTensor& t, std::int64_t s) { return t.as<double>()[s]; };
  for (std::int64_t s = 0; s < ids.shape[0]; ++s) {
    const Range seen = segment(in.seen_segments, s);
    const SamplingRow row{.temperature = at(in.temperature, s),
                          .top_k = in.top_k.as<std::int64_t>()[s],
                          .top_p = at(in.top_p, s),
                          .min_p = at(in.min_p, s),
                          .repetition_penalty = at(in.repetition_penalty, s)};
    ids.as<std::int32_t>()[s] =
        draw({in.logits.as<float>() + s * in.logits.shape[1], static_cast<std::size_t>(options.vocabulary)},
             {in.seen.as<std::int32_t>() + seen.begin, static_cast<std::size_t>(seen.length())}, row,
             at(in.uniform, s));
  }
}

}  // namespace braid::reference
