// Generated examples as batches: one segment for each example, one after the other.
#pragma once
#include "braid/data/batches.h"
#include "braid/lab/experiment/experiment.h"

namespace braid::lab {

// How many tokens a batch has: few different sizes for examples of one kind, so that what was planned or
// recorded for one batch serves the next.
struct PackedSizes {
  std::int64_t row = 0;   // room for an example: no segment is longer
  std::int64_t tile = 0;  // the whole is a multiple of this for each example; row is too
  // For examples of at most that many tokens; a thirty-second of it at most is wasted, or eight tokens a row.
  static PackedSizes of(std::int64_t longest);
};

// A batch of `instances` rows that a multiple of as many examples lie in without regard to rows, each a
// segment with whatever padding falls to it behind: that is seen by nothing before it, and predicts nothing.
struct PackOptions {
  std::int64_t instances = 1;
  LossTokens loss = LossTokens::all;
  std::int64_t longest = 0;  // of examples like these; where one of these is longer, that one
};
data::Batch pack(std::span<const Example> examples, const PackOptions& options);

// Questions with one answer each: the final one.
struct TestBatch {
  data::Batch batch;
  std::vector<std::int32_t> rows;     // the token of the batch that predicts the answer
  std::vector<std::int32_t> answers;  // its id
};
TestBatch pack_tests(std::span<const Example> examples, std::int64_t longest = 0);
std::int64_t longest_of(std::span<const Example> examples);

// What a run trains on and is checked with: every part a pure function of the experiment, the run's seed and
// the step, so that a run that goes on sees what it would have seen.
class RunData {
 public:
  RunData(const Experiment& experiment, std::int64_t run_seed);

  data::Batch training_batch(std::int64_t step, std::size_t stage) const;
  // Tokens of the stage's longest example: of some that are drawn for every spacing of reveals. Where lengths
  // vary, a longer one may come.
  std::int64_t longest(std::size_t stage) const { return longest_[stage]; }
  // Examples that no step trains on (unless by chance), without reveals unless the evaluation has them.
  std::vector<Example> held_out(std::size_t stage) const;
  // The same for every run of the experiment.
  std::vector<Example> evaluation(std::int64_t n) const;

 private:
  std::vector<Example> tests(std::uint64_t seed, std::int64_t n, std::int64_t count) const;

  const Experiment& experiment_;
  std::uint64_t training_seed_, check_seed_, evaluation_seed_;
  std::vector<std::int64_t> longest_;  // of each stage
};

}  // namespace braid::lab
