#include "braid/ops/tally_step.h"

#include <cmath>

#include "braid/ops/optimizer.h"
#include "tests/support/cases.h"
#include "tests/support/op_errors.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using test::Trial;

struct Step {
  Tensor loss, log_sum_exp, norm;
};

Step make_step(Trial& t, std::int64_t tokens, std::int64_t number) {
  const auto name = [&](const char* what) { return fmt::format("{} {}", what, number); };
  const Step s{t.tensors.uniform(name("loss"), t.accumulator(), {tokens}, 0, 4),
               t.tensors.normal(name("log_sum_exp"), t.accumulator(), {tokens}),
               t.tensors.uniform(name("norm"), t.accumulator(), {2}, 0.1, 1)};
  return s;
}

void report(Trial& t, const Tensor& tally, const Tensor& clip, std::int64_t tokens) {
  for (const auto element : {ops::kTallyLoss, ops::kTallyZLoss, ops::kTallyGradientNorm, ops::kTallyLossSum,
                             ops::kTallySteps, ops::kTallyFailedStep}) {
    t.result(fmt::format("tally {}", static_cast<int>(element)), rows_of(tally, element, 1), tokens);
  }
  for (const std::int64_t i : {0, 1}) t.result(fmt::format("clip {}", i), rows_of(clip, i, 1));
}

TEST(TallyStep, BackendsAgreeOverSteps) {
  for (const std::int64_t tokens : {1, 7, 1000, 1024, 1025, 70000}) {
    test::expect_backends_agree(fmt::format("tokens {}", tokens), [&](Trial& t) {
      const Tensor tally = t.tensors.zeros(DType::f64, {ops::kTallyElements});
      const Tensor clip = t.tensors.zeros(t.accumulator(), {2});
      const Tensor scale = t.tensors.of(DType::f64, {1}, {1 / static_cast<double>(tokens)});
      for (std::int64_t step = 1; step <= 3; ++step) {
        const auto s = make_step(t, tokens, step);
        ops::tally_step(t.ctx, tally, clip, {s.loss, s.log_sum_exp}, s.norm, scale);
      }
      report(t, tally, clip, tokens);
    });
  }
}

// Tally and clip after so many steps on two tokens, the second of which is not finite by its loss or its
// norm.
Trial after(test::TestContext& context, std::int64_t steps, bool by_norm, double bad) {
  return test::run_on(context, DType::f32, 1, [&](Trial& t) {
    const Tensor tally = t.tensors.zeros(DType::f64, {ops::kTallyElements});
    const Tensor clip = t.tensors.zeros(DType::f32, {2}), scale = t.tensors.of(DType::f64, {1}, {0.5});
    const Tensor log_sum_exp = t.tensors.of(DType::f32, {2}, {1, 2});
    for (std::int64_t step = 1; step <= steps; ++step) {
      const Tensor loss = t.tensors.of(DType::f32, {2}, {1, 3});
      const Tensor norm = t.tensors.of(DType::f32, {2}, {2, 0.5});
      if (step == 2) t.tensors.set(by_norm ? norm : loss, 0, bad);
      ops::tally_step(t.ctx, tally, clip, {loss, log_sum_exp}, norm, scale);
    }
    t.result("tally", tally);
    t.result("clip", clip);
  });
}

// It is named, and no later one is let through.
TEST(TallyStep, BackendsAgreeThatAFailedStepStays) {
  const auto check = [](test::TestContext& context, std::string_view name) {
    for (const bool by_norm : {false, true}) {
      for (const double bad : {std::nan(""), HUGE_VAL}) {
        const auto value = [&](std::int64_t steps, std::size_t result, std::int64_t element) {
          return test::element(after(context, steps, by_norm, bad).results[result].tensor, element);
        };
        EXPECT_EQ(value(1, 0, ops::kTallyFailedStep), 0) << name;
        EXPECT_EQ(value(1, 0, ops::kTallyLoss), 2) << name;
        EXPECT_EQ(value(1, 0, ops::kTallyZLoss), 2.5) << name;
        EXPECT_EQ(value(1, 0, ops::kTallyGradientNorm), 2) << name;
        EXPECT_EQ(value(1, 1, 1), 0.5) << name;
        for (const std::int64_t steps : {2, 3}) {
          EXPECT_EQ(value(steps, 0, ops::kTallyFailedStep), 2) << name;
          EXPECT_EQ(value(steps, 0, ops::kTallySteps), 2) << name;
          EXPECT_EQ(value(steps, 0, ops::kTallyLossSum), 2) << name;
          EXPECT_EQ(std::isfinite(value(steps, 0, ops::kTallyLoss)), by_norm) << name;
          for (const std::int64_t i : {0, 1}) EXPECT_TRUE(std::isnan(value(steps, 1, i))) << name;
        }
      }
    }
  };
  if (test::testing_cuda()) return check(test::cuda_context(), "cuda");
  auto reference = test::reference_context(), cpu = test::cpu_context(2);
  check(reference, "reference");
  check(cpu, "cpu");
}

TEST(TallyStep, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensor loss = t.zeros(DType::f32, {3}), two = t.zeros(DType::f32, {2});
  const Tensor tally = t.zeros(DType::f64, {ops::kTallyElements}), scale = t.zeros(DType::f64, {1});
  const auto call = [&](const Tensor& tally_in, const Tensor& clip, const Tensor& lse,
                        const Tensor& scale_in) {
    return [=, &context] { ops::tally_step(*context, tally_in, clip, {loss, lse}, two, scale_in); };
  };
  using test::expect_op_error;
  expect_op_error(call(two, two, loss, scale), "tally_step", "tally is");
  expect_op_error(call(tally, loss, loss, scale), "tally_step", "clip is");
  expect_op_error(call(tally, two, two, scale), "tally_step", "log_sum_exp is");
  expect_op_error(call(tally, two, loss, two), "tally_step", "scale is");
}

}  // namespace
}  // namespace braid
