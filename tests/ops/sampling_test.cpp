#include "braid/ops/sampling.h"

#include <cmath>
#include <limits>

#include "braid/core/random.h"
#include "tests/support/op_errors.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using test::Trial;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Rule {
  double temperature = 1;
  std::int64_t top_k = 0;
  double top_p = 1, min_p = 0, repetition_penalty = 1;
};
// Thresholds keep away from sums that equal logits hit exactly: there rounding decides.
std::vector<Rule> rules() {
  return {{.temperature = 0},
          {.temperature = 0, .top_k = 3, .repetition_penalty = 1.7},
          {},
          {.temperature = 0.3},
          {.temperature = 2.5, .repetition_penalty = 0.6},
          {.top_k = 1},
          {.top_k = 40},
          {.top_k = 1'000'000},
          {.top_p = 0.503},
          {.temperature = 1.2, .top_p = 0.957},
          {.top_p = 1e-9},
          {.min_p = 0.0513},
          {.min_p = 1},
          {.temperature = 0.8, .top_k = 50, .top_p = 0.911, .min_p = 0.0203, .repetition_penalty = 1.3},
          {.temperature = 1e-3, .top_k = 5, .top_p = 0.7}};
}

// What the logits of one row are made of, from standard normal numbers.
struct Content {
  const char* name;
  double (*logit)(double normal, std::int64_t id, std::int64_t count);
};
const std::vector<Content>& contents() {
  static const std::vector<Content> all{
      {"normal", [](double x, std::int64_t, std::int64_t) { return 3 * x; }},
      {"near zero", [](double x, std::int64_t, std::int64_t) { return 1e-4 * x; }},
      {"ties", [](double x, std::int64_t, std::int64_t) { return std::round(2 * x); }},
      {"signed zeros", [](double x, std::int64_t, std::int64_t) { return x > 0 ? 0.0 : -0.0; }},
      {"all equal", [](double, std::int64_t, std::int64_t) { return -7.25; }},
      {"impossible ones", [](double x, std::int64_t, std::int64_t) { return x < 0.5 ? -kInfinity : 4 * x; }},
      {"one possible",
       [](double x, std::int64_t id, std::int64_t n) { return id == n / 2 ? x : -kInfinity; }},
      {"one huge", [](double x, std::int64_t id, std::int64_t n) { return id == n / 3 ? 3e38 : x; }},
      {"huge range", [](double x, std::int64_t, std::int64_t) { return x * 1e37; }},
      {"none possible", [](double, std::int64_t, std::int64_t) { return -kInfinity; }},
      {"not a number",
       [](double x, std::int64_t id, std::int64_t n) { return id == n - 1 ? std::nan("") : x; }},
      {"infinite", [](double x, std::int64_t id, std::int64_t) { return id == 0 ? kInfinity : x; }}};
  return all;
}

struct Tensors {
  Tensor ids;
  ops::SamplingInputs in;
};

template <class Member>
Tensor column(test::TestTensors& t, DType dtype, const std::vector<Rule>& rows, Member Rule::*member) {
  std::vector<double> values;
  for (const Rule& r : rows) values.push_back(static_cast<double>(r.*member));
  return t.of(dtype, {static_cast<std::int64_t>(rows.size())}, values);
}

Tensors make_tensors(test::TestTensors& t, const std::vector<Rule>& rows, std::int64_t vocabulary,
                     const Content& content) {
  const auto count = static_cast<std::int64_t>(rows.size());
  Random random(t.seed(), static_cast<std::uint64_t>(vocabulary));
  std::vector<double> logits, uniform;
  for (std::int64_t s = 0; s < count; ++s) {
    uniform.push_back(random.uniform());
    for (std::int64_t id = 0; id < vocabulary; ++id) {
      logits.push_back(content.logit(random.normal(), id, vocabulary));
    }
  }
  std::vector<std::int32_t> seen;
  std::vector<std::int64_t> lengths;
  for (std::int64_t s = 0; s < count; ++s) {
    lengths.push_back(3 * s);
    for (std::int64_t i = 0; i < 3 * s; ++i) {
      const auto id = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocabulary)));
      seen.push_back(i % 7 == 3 ? id - static_cast<std::int32_t>(vocabulary) : id);
    }
  }
  Tensors out;
  out.ids = t.make(DType::i32, {count});
  out.in = {.logits = t.of(DType::f32, {count, vocabulary}, logits),
            .uniform = t.of(DType::f64, {count}, uniform),
            .temperature = column(t, DType::f64, rows, &Rule::temperature),
            .top_k = column(t, DType::i64, rows, &Rule::top_k),
            .top_p = column(t, DType::f64, rows, &Rule::top_p),
            .min_p = column(t, DType::f64, rows, &Rule::min_p),
            .repetition_penalty = column(t, DType::f64, rows, &Rule::repetition_penalty),
            .seen = t.of(seen),
            .seen_segments = t.segments(lengths)};
  return out;
}

void expect_agreement(std::int64_t vocabulary, std::int64_t used, const Content& content, std::uint64_t seed,
                      const std::vector<Rule>& rows = rules()) {
  test::expect_backends_agree(
      fmt::format("{} rows, {} of {} logits, {}", rows.size(), used, vocabulary, content.name),
      [&](Trial& t) {
        const Tensors a = make_tensors(t.tensors, rows, vocabulary, content);
        ops::sampling(t.ctx, a.ids, a.in, {.vocabulary = used});
        t.result("ids", a.ids, test::Tolerance{0, 0});
      },
      seed);
}

TEST(Sampling, BackendsAgree) {
  for (const auto& content : contents()) {
    for (const std::int64_t vocabulary : {1, 5, 307, 5003}) {
      for (const std::uint64_t seed : {1, 2, 3}) expect_agreement(vocabulary, 0, content, seed);
    }
  }
  expect_agreement(5003, 4099, contents()[0], 4);
}

// Fewer threads than above, for compute-sanitizer's racecheck; every filter, and ties.
TEST(Sampling, OneRowBackendsAgree) {
  for (const std::int64_t vocabulary : {307, 5003}) {
    for (const Rule& rule :
         {Rule{.temperature = 0}, Rule{.top_k = 40}, Rule{.temperature = 1.2, .top_p = 0.957},
          Rule{.temperature = 0.8, .top_k = 50, .top_p = 0.911, .min_p = 0.0203}}) {
      expect_agreement(vocabulary, 0, contents()[0], 6, {rule});
      expect_agreement(vocabulary, 0, contents()[2], 7, {rule});
    }
  }
}

TEST(Sampling, LargeVocabulariesBackendsAgree) {
  for (const std::size_t content : {0, 2, 4}) expect_agreement(262'139, 0, contents()[content], 5);
}

TEST(Sampling, BrokenRowsAreMarked) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const auto first = [&](const Content& content) {
    const Tensors a = make_tensors(t, {{}}, 9, content);
    ops::sampling(*context, a.ids, a.in, {});
    return a.ids.as<std::int32_t>()[0];
  };
  for (const auto& content : contents()) {
    const std::string_view name = content.name;
    if (name == "none possible") {
      EXPECT_EQ(first(content), ops::kAllImpossible);
    } else if (name == "not a number" || name == "infinite") {
      EXPECT_EQ(first(content), ops::kNotANumber);
    } else {
      EXPECT_GE(first(content), 0) << name;
    }
  }
}

TEST(Sampling, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensors good = make_tensors(t, {{}, {}}, 9, contents()[0]);
  const auto broken = [&](auto&& change, ops::SamplingOptions options = {}) {
    Tensors a = good;
    change(a);
    return [a, options, &context] { ops::sampling(*context, a.ids, a.in, options); };
  };
  using test::expect_op_error;
  const Tensor one = t.zeros(DType::f64, {1});
  expect_op_error(broken([&](Tensors& a) { a.in.uniform = one; }), "sampling", "uniform is");
  expect_op_error(broken([&](Tensors& a) { a.in.top_k = good.in.top_p; }), "sampling", "top_k is");
  expect_op_error(broken([&](Tensors& a) { a.ids = one; }), "sampling", "ids is");
  expect_op_error(broken([&](Tensors& a) {
                    a.in.logits = t.zeros(DType::f64, {2, 9});
                  }),
                  "sampling", "logits is");
  expect_op_error(broken([&](Tensors& a) {
                    a.in.logits = t.zeros(DType::f32, {2, 0});
                  }),
                  "sampling", "no logits");
  expect_op_error(broken([](Tensors&) {}, {.vocabulary = 10}), "sampling", "vocabulary 10");
  expect_op_error(broken([&](Tensors& a) { a.in.seen_segments = t.segments({1}); }), "sampling",
                  "seen_segments");
}

}  // namespace
}  // namespace braid
