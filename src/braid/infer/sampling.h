// Choosing the next token from logits.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "braid/model/work_memory.h"
#include "braid/ops/sampling.h"

namespace braid::infer {

// Applied in the order of transformers' generate(): repetition penalty, temperature, top-k, top-p, min-p.
// ops/sampling.h says what each does.
struct SamplingOptions {
  double temperature = 0;  // 0: greedy; the filters then do not matter
  std::int64_t top_k = 0;
  double top_p = 1;
  double min_p = 0;
  double repetition_penalty = 1;
  std::uint64_t seed = 0;
};
void validate(const SamplingOptions& options);  // throws, naming the option

// Token `index` of sequence `stream`: a function of these, the seed and the logits alone, so that it does not
// depend on which other sequences run. `seen` (prompt and generated) may hold tokens more than once.
struct Draw {
  std::span<const std::int32_t> seen;
  std::uint64_t stream = 0, index = 0;
};

// Draws on the backend that made the logits, so that only ids leave its memory.
class Sampler {
 public:
  // Ids from `vocabulary` (0: all) on are never drawn. The backend must outlive the sampler.
  Sampler(const Backend& backend, const SamplingOptions& options, std::int64_t vocabulary = 0);
  // The next token of each row of logits (S, V), f32 in the backend's memory. NaN logits are an error;
  // -infinity means never.
  std::vector<std::int32_t> draw(const ConstTensor& logits, std::span<const Draw> rows);

 private:
  const Backend& backend_;
  SamplingOptions options_;
  std::int64_t vocabulary_;
  model::WorkMemory memory_;
};

}  // namespace braid::infer
