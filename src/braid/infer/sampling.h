// Choosing the next token from logits.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace braid::infer {

// Applied in the order of transformers' generate(): repetition penalty, temperature, top-k, top-p, min-p.
struct SamplingOptions {
  // Divides the logits. 0: greedy, the best token (the lowest id among equals); the filters then do not
  // matter.
  double temperature = 0;
  std::int64_t top_k = 0;  // keep the k best tokens, and those equal to the k-th; 0: all
  // Keep the fewest best tokens whose probabilities sum to top_p or more; 1: all.
  double top_p = 1;
  double min_p = 0;  // keep tokens of at least min_p times the best one's probability; 0: all
  // Logits of tokens that were seen (prompt and generated) are divided by this when positive, multiplied when
  // negative (Keskar et al. 2019); 1: off.
  double repetition_penalty = 1;
  std::uint64_t seed = 0;
};
void validate(const SamplingOptions& options);  // throws, naming the option

struct Candidate {
  std::int32_t id = 0;
  double probability = 0;
};
// The tokens that may be drawn, best first, with probabilities that sum to 1. NaN logits are an error;
// -infinity means never. `seen` may hold tokens more than once.
std::vector<Candidate> candidates(std::span<const float> logits, std::span<const std::int32_t> seen,
                                  const SamplingOptions& options);

// Token `index` of sequence `stream`: a function of these, the seed and the logits alone, so that it does not
// depend on which other sequences run.
std::int32_t sample_token(std::span<const float> logits, std::span<const std::int32_t> seen,
                          const SamplingOptions& options, std::uint64_t stream, std::uint64_t index);

}  // namespace braid::infer
