#include "braid/ops/cross_entropy.h"

#include <cmath>

#include "tests/support/cases.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_errors.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using ops::LossGradient;
using test::Trial;

enum class Weighted : bool { no, yes };

// One target in eight or so is negative (ignored).
void run(Trial& t, std::int64_t tokens, std::int64_t vocabulary, double spread,
         ops::CrossEntropyOptions options, Weighted weighted = Weighted::no) {
  const Tensor logits = t.tensors.normal("logits", t.dtype, {tokens, vocabulary}, {.scale = spread});
  const Tensor targets = t.tensors.integers("targets", {tokens}, -1 - vocabulary / 8, vocabulary);
  const Tensor loss = t.tensors.make(t.accumulator(), {tokens});
  const Tensor log_sum_exp = t.tensors.make(t.accumulator(), {tokens});
  ConstTensor weights;
  if (weighted == Weighted::yes) weights = t.tensors.uniform("weights", DType::f32, {tokens}, -2, 2);
  options.scale = t.tensors.of(DType::f64, {1}, {0.125});
  ops::cross_entropy(t.ctx, loss, log_sum_exp, logits, targets, weights, options);
  t.result("loss", loss, vocabulary);
  t.result("log_sum_exp", log_sum_exp, vocabulary);
  t.result("logits", logits, vocabulary);  // the gradient, or as they were
}

TEST(CrossEntropy, BackendsAgree) {
  for (const std::int64_t tokens : {0, 1, 2, 17, 65}) {
    for (const std::int64_t vocabulary : {1, 2, 33, 104, 1003}) {
      for (const auto gradient : {LossGradient::no, LossGradient::yes}) {
        for (const double z_loss : {0.0, 1e-2}) {
          if (vocabulary == 1 && z_loss != 0) continue;  // p − 1 cancels down to z_loss' part
          const auto name = fmt::format("tokens {} vocabulary {} gradient {} z {}", tokens, vocabulary,
                                        gradient == LossGradient::yes, z_loss);
          test::expect_backends_agree(name, [&](Trial& t) {
            run(t, tokens, vocabulary, 1, {.z_loss = z_loss, .gradient = gradient});
          });
        }
      }
    }
  }
}

// More rows than a device works on at once, and rows on either side of what its shared memory holds.
TEST(CrossEntropy, BackendsAgreeOnLargeShapes) {
  const test::RowsCase cases[] = {{300, 1000}, {300, 999}, {3, 50000}, {2, 60000}, {2, 120000}, {2, 100003}};
  for (const auto& [tokens, vocabulary] : cases) {
    for (const auto gradient : {LossGradient::no, LossGradient::yes}) {
      const auto name = fmt::format("tokens {} vocabulary {} gradient {}", tokens, vocabulary,
                                    gradient == LossGradient::yes);
      test::expect_backends_agree(name, [&, rows = tokens, width = vocabulary](Trial& t) {
        run(t, rows, width, 2, {.z_loss = 1e-3, .gradient = gradient}, Weighted::yes);
      });
    }
  }
}

TEST(CrossEntropy, BackendsAgreeWithWeights) {
  for (const std::int64_t tokens : {1, 17}) {
    for (const std::int64_t vocabulary : {33, 104}) {
      test::expect_backends_agree(fmt::format("tokens {} vocabulary {}", tokens, vocabulary), [&](Trial& t) {
        run(t, tokens, vocabulary, 1, {.gradient = LossGradient::yes}, Weighted::yes);
      });
    }
  }
}

TEST(CrossEntropy, WeightsMultiplyTheGradientAloneAndOnesAreNone) {
  for (const bool on_cpu : {false, true}) {
    auto context = on_cpu ? test::cpu_context() : test::reference_context();
    test::TestTensors t(1);
    const Tensor logits = t.normal("logits", DType::f32, {3, 5}), targets = t.of({3, 0, 4});
    const auto run_with = [&](const ConstTensor& weights) {
      const Tensor gradient = t.copy_of(logits);
      const Tensor loss = t.make(DType::f32, {3}), log_sum_exp = t.make(DType::f32, {3});
      ops::cross_entropy(*context, loss, log_sum_exp, gradient, targets, weights,
                         {.gradient = LossGradient::yes});
      return std::pair{loss, gradient};
    };
    const auto [loss, gradient] = run_with({});
    const auto [one_loss, one_gradient] = run_with(t.of(DType::f32, {3}, {1, 1, 1}));
    test::expect_same(one_gradient, gradient, "weights of 1");
    const auto [weighted_loss, weighted] = run_with(t.of(DType::f32, {3}, {-2, 0, 0.5}));
    test::expect_same(weighted_loss, loss, "loss");
    for (std::int64_t v = 0; v < 5; ++v) {
      EXPECT_EQ(test::element(weighted, v), -2 * test::element(gradient, v));
      EXPECT_EQ(test::element(weighted, 5 + v), 0);
      EXPECT_EQ(test::element(weighted, 10 + v), 0.5 * test::element(gradient, 10 + v));
    }
  }
}

TEST(CrossEntropy, GradientIsThatOfDifferences) {
  for (const double z_loss : {0.0, 0.3}) {
    auto context = test::reference_context();
    test::TestTensors t(1);
    constexpr double kScale = 0.7;
    const ops::CrossEntropyOptions options{.scale = t.of(DType::f64, {1}, {kScale}), .z_loss = z_loss};
    auto with_gradient = options;
    with_gradient.gradient = LossGradient::yes;
    const Tensor logits = t.normal("logits", DType::f64, {4, 5}), targets = t.of({3, -100, 0, 4});
    const Tensor loss = t.make(DType::f64, {4}), log_sum_exp = t.make(DType::f64, {4});
    const Tensor gradient = t.copy_of(logits);
    const Tensor weights = t.of(DType::f32, {4}, {0.5, 3, -1.25, 1});
    ops::cross_entropy(*context, loss, log_sum_exp, gradient, targets, weights, with_gradient);
    test::expect_gradient(
        logits, gradient,
        [&] {
          ops::cross_entropy(*context, loss, log_sum_exp, logits, targets, {}, options);
          double sum = 0;
          for (std::int64_t i = 0; i < 4; ++i) {
            const double lse = test::element(log_sum_exp, i);
            sum += test::element(weights, i) * (test::element(loss, i) + z_loss * lse * lse);
          }
          return kScale * sum;
        },
        "dlogits");
  }
}

TEST(CrossEntropy, KnownValuesLargeLogitsAndIgnoredTargets) {
  for (const bool on_cpu : {false, true}) {
    auto context = on_cpu ? test::cpu_context() : test::reference_context();
    test::TestTensors t(1);
    const Tensor logits = t.of(DType::f32, {3, 2}, {1000, 1000, -500, 500, 3, 4});
    const Tensor loss = t.make(DType::f32, {3}), log_sum_exp = t.make(DType::f32, {3});
    ops::cross_entropy(*context, loss, log_sum_exp, logits, t.of({1, 0, -1}), {},
                       {.gradient = LossGradient::yes});
    const float log2 = std::log(2.0f);
    test::expect_close(log_sum_exp, t.of(DType::f32, {3}, {1000 + log2, 500, 0}), {1e-7, 1e-7},
                       "log_sum_exp");
    EXPECT_NEAR(test::element(loss, 0), log2, 6.2e-5);  // half an ulp of 1000, and its log
    EXPECT_EQ(test::element(loss, 1), 1000);
    EXPECT_EQ(test::element(loss, 2), 0);
    test::expect_close(logits, t.of(DType::f32, {3, 2}, {0.5, -0.5, -1, 1, 0, 0}), {1e-4, 1e-4}, "gradient");
    EXPECT_EQ(test::element(logits, 4), 0);
    EXPECT_EQ(test::element(logits, 5), 0);
  }
}

TEST(CrossEntropy, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensor logits = t.zeros(DType::f32, {2, 3}), per_token = t.zeros(DType::f32, {2});
  const auto call = [&](Tensor loss, Tensor log_sum_exp, Tensor from, ConstTensor targets) {
    return [=, &context] { ops::cross_entropy(*context, loss, log_sum_exp, from, targets, {}, {}); };
  };
  const auto weighted = [&](ConstTensor weights) {
    return [=, &context, &t] {
      ops::cross_entropy(*context, per_token, per_token, logits, t.of({0, 2}), weights, {});
    };
  };
  using test::expect_op_error;
  expect_op_error(weighted(t.zeros(DType::f32, {3})), "cross_entropy", "weights is");
  expect_op_error(weighted(t.zeros(DType::f64, {2})), "cross_entropy", "weights is");
  const Tensor targets = t.of({0, 2}), three = t.zeros(DType::f32, {3});
  expect_op_error(
      [&] { ops::cross_entropy(*context, per_token, per_token, logits, targets, {}, {.scale = per_token}); },
      "cross_entropy", "scale is");
  expect_op_error(call(three, per_token, logits, targets), "cross_entropy", "loss is");
  expect_op_error(call(per_token, three, logits, targets), "cross_entropy", "log_sum_exp is");
  expect_op_error(call(per_token, per_token, three, targets), "cross_entropy", "logits is");
  expect_op_error(call(per_token, per_token, logits, t.of({0})), "cross_entropy", "targets is");
  expect_op_error(call(per_token, per_token, logits, t.of({0, 3})), "cross_entropy", "targets[1] is 3");
}

}  // namespace
}  // namespace braid
