// A model soup: the average of models of one configuration, weight by weight (Wortsman et al. 2022; in
// the paper, appendix A: the uniform average, in f32, of the two mid-training endpoints).
#pragma once
#include <vector>

#include "braid/io/files.h"
#include "braid/model/config.h"

namespace braid::model {

struct SoupOptions {
  std::vector<double> weights{};                       // one for each model; empty: equal
  std::size_t max_shard_bytes = std::size_t{5} << 30;  // 0: one file
};

struct SoupSummary {
  ModelConfig config;
  std::vector<double> weights;  // as used: they sum to 1
  std::int64_t parameters = 0;
};

// Writes the average of model directories (f32, bf16 or f16, under any published names) to `output`, which
// must not exist yet, in f32 and with checksums: each sum is taken in f64 in the order of the models and
// rounded once. Weights are divided by their sum. The tokenizer and the other small files are the first
// model's. Memory is bounded by twice the largest parameter in f32, whatever the size of the models. Models
// that have checksums are verified. Errors name the first field of the configs, the tokenizer's file, or the
// tensor that does not fit.
SoupSummary make_soup(const std::vector<io::fs::path>& models, const io::fs::path& output,
                      const SoupOptions&);

}  // namespace braid::model
