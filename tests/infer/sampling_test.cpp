#include "braid/infer/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "braid/backends/backends.h"
#include "braid/backends/reference/sampling.h"
#include "tests/model/golden_models.h"

namespace braid::infer {
namespace {

// What may be drawn, by the op's definition.
std::vector<reference::Candidate> candidates(const std::vector<float>& logits,
                                             const std::vector<std::int32_t>& seen,
                                             const SamplingOptions& o) {
  return reference::candidates(logits, seen,
                               {.temperature = o.temperature,
                                .top_k = o.top_k,
                                .top_p = o.top_p,
                                .min_p = o.min_p,
                                .repetition_penalty = o.repetition_penalty});
}

std::int32_t sample_token(const std::vector<float>& logits, const std::vector<std::int32_t>& seen,
                          const SamplingOptions& options, std::uint64_t stream, std::uint64_t index) {
  static const Backend backend = make_backend("reference");
  ConstTensor row;
  row.data = logits.data();
  row.shape = {1, static_cast<std::int64_t>(logits.size())};
  const Draw draw{.seen = seen, .stream = stream, .index = index};
  return Sampler(backend, options).draw(row, {&draw, 1}).at(0);
}

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Probabilities 0.5, 0.25, 0.15, 0.1 at ids 2, 0, 3, 1, at temperature 1.
std::vector<float> logits() {
  std::vector<float> x;
  for (const double p : {0.25, 0.1, 0.5, 0.15}) x.push_back(static_cast<float>(std::log(p) + 3));
  return x;
}

std::map<int, double> distribution(const SamplingOptions& options, std::vector<std::int32_t> seen = {}) {
  std::map<int, double> p;
  for (const auto& c : candidates(logits(), seen, options)) p[c.id] = c.probability;
  return p;
}

void expect_distribution(const std::map<int, double>& got, const std::map<int, double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [id, p] : want) EXPECT_NEAR(got.at(id), p, 1e-7) << "token " << id;
}

TEST(Sampling, TemperatureSharpensAndFlattens) {
  expect_distribution(distribution({.temperature = 1}), {{0, 0.25}, {1, 0.1}, {2, 0.5}, {3, 0.15}});
  // p^(1/T), normalised: T = 0.5 squares.
  const double sum = 0.0625 + 0.01 + 0.25 + 0.0225;
  expect_distribution(distribution({.temperature = 0.5}),
                      {{0, 0.0625 / sum}, {1, 0.01 / sum}, {2, 0.25 / sum}, {3, 0.0225 / sum}});
}

TEST(Sampling, GreedyTakesTheBestAndTheLowestIdAmongEquals) {
  expect_distribution(distribution({.temperature = 0, .top_k = 3, .top_p = 0.1}), {{2, 1}});
  const std::vector<float> equal{1, 3, 3, 2};
  EXPECT_EQ(sample_token(equal, {}, {}, 0, 0), 1);
}

TEST(Sampling, TopKKeepsTheBestAndThoseEqualToTheLast) {
  expect_distribution(distribution({.temperature = 1, .top_k = 2}), {{0, 1.0 / 3}, {2, 2.0 / 3}});
  expect_distribution(distribution({.temperature = 1, .top_k = 100}), distribution({.temperature = 1}));
  const std::vector<float> equal{1, 2, 1, 0};
  EXPECT_EQ(candidates(equal, {}, {.temperature = 1, .top_k = 2}).size(), 3u);
}

TEST(Sampling, TopPKeepsTheFewestThatReachIt) {
  expect_distribution(distribution({.temperature = 1, .top_p = 0.6}), {{0, 1.0 / 3}, {2, 2.0 / 3}});
  expect_distribution(distribution({.temperature = 1, .top_p = 0.4}), {{2, 1}});
  expect_distribution(distribution({.temperature = 1, .top_p = 0.8}),
                      {{0, 0.25 / 0.9}, {2, 0.5 / 0.9}, {3, 0.15 / 0.9}});
  expect_distribution(distribution({.temperature = 1, .top_p = 1e-9}), {{2, 1}});
}

TEST(Sampling, MinPIsRelativeToTheBest) {
  expect_distribution(distribution({.temperature = 1, .min_p = 0.45}), {{0, 1.0 / 3}, {2, 2.0 / 3}});
  expect_distribution(distribution({.temperature = 1, .min_p = 1}), {{2, 1}});
}

// Temperature first, then top-k, top-p of what is left, min-p of what is left.
TEST(Sampling, FiltersApplyInTheStatedOrder) {
  // At T = 0.5 the best has 0.7246 of the mass: top-p 0.7 keeps it alone; at T = 1 it would keep two.
  expect_distribution(distribution({.temperature = 0.5, .top_p = 0.7}), {{2, 1}});
  // After top-k 3 the shares are 5/9, 5/18, 1/6: top-p 0.83 keeps two; of all four it would keep three.
  expect_distribution(distribution({.temperature = 1, .top_k = 3, .top_p = 0.83}),
                      {{0, 1.0 / 3}, {2, 2.0 / 3}});
}

TEST(Sampling, RepetitionPenaltyPullsBothSignsDown) {
  const std::vector<float> x{2, -1, 1};
  const std::vector<std::int32_t> seen{0, 1, 0};  // twice seen is penalised once
  std::map<int, double> got;
  for (const auto& c : candidates(x, seen, {.temperature = 1, .repetition_penalty = 2}))
    got[c.id] = c.probability;
  const double a = std::exp(1.0), b = std::exp(-2.0), c = std::exp(1.0), sum = a + b + c;
  expect_distribution(got, {{0, a / sum}, {1, b / sum}, {2, c / sum}});
  // It acts on greedy choices too.
  EXPECT_EQ(sample_token(x, seen, {.repetition_penalty = 3}, 0, 0), 2);
}

TEST(Sampling, DrawsFollowTheDistribution) {
  const SamplingOptions options{.temperature = 1, .top_k = 3, .seed = 7};
  const auto x = logits();
  constexpr int n = 20000;
  std::map<int, int> counts;
  for (int i = 0; i < n; ++i) ++counts[sample_token(x, {}, options, 3, static_cast<std::uint64_t>(i))];
  // Pearson's chi-squared with 2 degrees of freedom: above 13.8 once in a thousand seeds.
  double chi = 0;
  for (const auto& [id, p] : distribution(options)) chi += std::pow(counts[id] - n * p, 2) / (n * p);
  EXPECT_LT(chi, 13.8);
  EXPECT_EQ(counts[1], 0);
}

TEST(Sampling, ADrawIsAFunctionOfSeedStreamAndIndex) {
  const auto x = logits();
  const auto draw = [&](std::uint64_t seed, std::uint64_t stream) {
    std::vector<std::int32_t> ids;
    for (std::uint64_t i = 0; i < 40; ++i)
      ids.push_back(sample_token(x, {}, {.temperature = 1, .seed = seed}, stream, i));
    return ids;
  };
  EXPECT_EQ(draw(1, 2), draw(1, 2));
  EXPECT_NE(draw(1, 2), draw(1, 3));
  EXPECT_NE(draw(1, 2), draw(2, 2));
}

TEST(Sampling, BrokenLogitsAreErrors) {
  for (const double temperature : {0.0, 1.0}) {
    const SamplingOptions o{.temperature = temperature};
    const auto run = [&](std::vector<float> x) { return [=] { sample_token(x, {}, o, 0, 0); }; };
    test::expect_error(run({1, std::numeric_limits<float>::quiet_NaN()}), {"token 1", "nan"});
    test::expect_error(run({std::numeric_limits<float>::infinity(), 1}), {"token 0", "inf"});
    test::expect_error(run({kMinusInfinity, kMinusInfinity}), {"-infinity"});
    test::expect_error(run({}), {"no logits"});
    EXPECT_EQ(sample_token(std::vector{kMinusInfinity, 0.f}, {}, o, 0, 0), 1);
  }
}

TEST(Sampling, BadOptionsAreNamed) {
  const auto run = [](SamplingOptions o) { return [=] { validate(o); }; };
  test::expect_error(run({.temperature = -1}), {"temperature"});
  test::expect_error(run({.temperature = std::numeric_limits<double>::quiet_NaN()}), {"temperature"});
  test::expect_error(run({.top_k = -1}), {"top_k"});
  test::expect_error(run({.top_p = 0}), {"top_p"});
  test::expect_error(run({.top_p = 1.1}), {"top_p"});
  test::expect_error(run({.min_p = -0.1}), {"min_p"});
  test::expect_error(run({.repetition_penalty = 0}), {"repetition_penalty"});
}

}  // namespace
}  // namespace braid::infer
