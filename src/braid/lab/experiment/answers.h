// How many generated questions a model answers right.
#pragma once
#include "braid/lab/experiment/examples.h"
#include "braid/lab/experiment/predictor.h"
#include "braid/lab/experiment/store.h"

namespace braid::lab {

class Answers {
 public:
  // All arguments must outlive it. `activations`: what the layers compute in.
  Answers(const Backend& backend, const Experiment& experiment, const model::ModelConfig& config,
          DType activations)
      : experiment_(experiment), words_(experiment.words()), predictor_(backend, config, activations) {}

  // As many examples at a time as a training step has, or more where they are short.
  std::vector<TestBatch> packed(std::span<const Example> examples) const;
  // Right final answers, an argmax over the problem's words.
  std::int64_t count_correct(const model::Parameters& weights, std::span<const TestBatch> tests);
  // Of the evaluation's examples at each of its lengths.
  std::vector<LengthResult> at_lengths(const model::Parameters& weights, const RunData& data);

 private:
  const Experiment& experiment_;
  std::int64_t words_;
  Predictor predictor_;
};

}  // namespace braid::lab
