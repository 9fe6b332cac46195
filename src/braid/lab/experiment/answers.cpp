#include "braid/lab/experiment/answers.h"

#include <algorithm>

namespace braid::lab {

std::vector<TestBatch> Answers::packed(std::span<const Example> examples) const {
  constexpr std::int64_t kTokens = 1 << 15;
  std::vector<TestBatch> batches;
  const auto longest = longest_of(examples);
  const auto rows =
      static_cast<std::size_t>(std::max(experiment_.batch_size, kTokens / PackedSizes::of(longest).row));
  for (std::size_t i = 0; i < examples.size(); i += rows) {
    batches.push_back(pack_tests(examples.subspan(i, std::min(rows, examples.size() - i)), longest));
  }
  return batches;
}

std::int64_t Answers::count_correct(const model::Parameters& weights, std::span<const TestBatch> tests) {
  std::int64_t correct = 0;
  for (const auto& test : tests) {
    const auto said = predictor_.predict(weights, test.batch, test.rows, words_);
    for (std::size_t i = 0; i < said.size(); ++i) correct += said[i] == test.answers[i] ? 1 : 0;
  }
  return correct;
}

std::vector<LengthResult> Answers::at_lengths(const model::Parameters& weights, const RunData& data) {
  std::vector<LengthResult> results;
  for (const auto n : experiment_.lengths) {
    const auto tests = packed(data.evaluation(n));
    results.push_back({.n = n, .correct = count_correct(weights, tests), .samples = experiment_.samples});
  }
  return results;
}

}  // namespace braid::lab
