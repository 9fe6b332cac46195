// One row of ops::sampling: what may be drawn from it, and the draw.
#pragma once
#include <span>
#include <vector>

#include "braid/ops/sampling.h"

namespace braid::reference {

struct SamplingRow {
  double temperature = 0;
  std::int64_t top_k = 0;
  double top_p = 1, min_p = 0, repetition_penalty = 1;
};

struct Candidate {
  std::int32_t id = 0;
  double probability = 0;
};
// The tokens that may be drawn, best first, with probabilities that sum to 1; none where every logit is
// -infinity. No logit may be NaN or +infinity.
std::vector<Candidate> candidates(std::span<const float> logits, std::span<const std::int32_t> seen,
                                  const SamplingRow& row);

}  // namespace braid::reference
