// Generated examples as batches: one segment for each example, one after the other.
#pragma once
#include "braid/data/batches.h"
#include "braid/lab/experiment/experiment.h"

namespace braid::lab {

// A batch of `instances` rows that examples lie in without regard to rows; the rest is a segment of padding.
// Rows are a multiple of `row_tile` long, so that few different shapes occur.
struct PackOptions {
  std::int64_t instances = 1;
  LossTokens loss = LossTokens::all;
  std::int64_t row_tile = 8;
};
data::Batch pack(std::span<const Example> examples, const PackOptions& options);

// Questions with one answer each: the final one.
struct TestBatch {
  data::Batch batch;
  std::vector<std::int32_t> rows;     // the token of the batch that predicts the answer
  std::vector<std::int32_t> answers;  // its id
};
TestBatch pack_tests(std::span<const Example> examples);

// What a run trains on and is checked with: every part a pure function of the experiment, the run's seed and
// the step, so that a run that goes on sees what it would have seen.
class RunData {
 public:
  RunData(const Experiment& experiment, std::int64_t run_seed);

  data::Batch training_batch(std::int64_t step, std::size_t stage) const;
  // Examples that no step trains on (unless by chance), without reveals unless the evaluation has them.
  std::vector<Example> held_out(std::size_t stage) const;
  // The same for every run of the experiment.
  std::vector<Example> evaluation(std::int64_t n) const;

 private:
  std::vector<Example> tests(std::uint64_t seed, std::int64_t n, std::int64_t count) const;

  const Experiment& experiment_;
  std::uint64_t training_seed_, check_seed_, evaluation_seed_;
};

}  // namespace braid::lab
