#include "braid/ops/optimizer.h"

#include <cmath>

#include "tests/support/cases.h"
#include "tests/support/op_errors.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using test::Trial;

constexpr std::int64_t kCounts[] = {1, 7, 16, 33, 1000, 70000};

TEST(GradientNorm, BackendsAgree) {
  for (const auto count : kCounts) {
    for (const double max_norm : {0.0, 0.5, 1e6}) {
      test::expect_backends_agree(fmt::format("count {} max_norm {}", count, max_norm), [&](Trial& t) {
        const Tensor gradients = t.tensors.normal("gradients", t.dtype, {count});
        const Tensor result = t.tensors.make(t.accumulator(), {2});
        ops::gradient_norm(t.ctx, result, gradients, max_norm);
        if (result.data == nullptr) return;
        // One by one: the norm would hide the scale.
        t.result("norm", rows_of(result, 0, 1), count);
        t.result("scale", rows_of(result, 1, 1), count);
      });
    }
  }
}

TEST(GradientNorm, KnownValues) {
  for (const bool on_cpu : {false, true}) {
    auto context = on_cpu ? test::cpu_context(2) : test::reference_context();
    test::TestTensors t(1);
    const Tensor gradients = t.of(DType::f32, {1, 2}, {3, -4}), result = t.make(DType::f32, {2});
    const auto expect = [&](const Tensor& of, double max_norm, const std::vector<double>& want) {
      ops::gradient_norm(*context, result, of, max_norm);
      test::expect_close(result, t.of(DType::f32, {2}, want), {1e-7, 1e-7}, on_cpu ? "cpu" : "reference");
    };
    expect(gradients, 0, {5, 1});
    expect(gradients, 5, {5, 1});
    expect(gradients, 2, {5, 0.4});
    expect(t.zeros(DType::f32, {3}), 1, {0, 1});
    expect(t.zeros(DType::f32, {0}), 1, {0, 1});
  }
}

TEST(AdamW, BackendsAgreeOverSteps) {
  for (const auto count : kCounts) {
    for (const bool scaled : {false, true}) {
      test::expect_backends_agree(fmt::format("count {} scaled {}", count, scaled), [&](Trial& t) {
        const ops::AdamWState state{t.tensors.normal("parameters", t.dtype, {count}),
                                    t.tensors.zeros(t.dtype, {count}), t.tensors.zeros(t.dtype, {count})};
        const Tensor norm_and_scale = scaled ? t.tensors.of(t.accumulator(), {2}, {2.0, 0.25}) : Tensor{};
        for (std::int64_t step = 1; step <= 3; ++step) {
          const Tensor gradients = t.tensors.normal(fmt::format("gradients {}", step), t.dtype, {count});
          ops::adamw(t.ctx, state, gradients, norm_and_scale, {.learning_rate = 1e-2, .step = step});
        }
        t.result("parameters", state.parameters, 3);
        t.result("first_moment", state.first_moment, 3);
        t.result("second_moment", state.second_moment, 3);
      });
    }
  }
}

// By hand, after Loshchilov & Hutter 2019, algorithm 2: at step 1 both bias corrections undo the averages.
TEST(AdamW, FirstStepByHand) {
  for (const bool on_cpu : {false, true}) {
    auto context = on_cpu ? test::cpu_context() : test::reference_context();
    test::TestTensors t(1);
    const ops::AdamWState state{t.of(DType::f32, {2}, {1, -2}), t.zeros(DType::f32, {2}),
                                t.zeros(DType::f32, {2})};
    const ops::AdamWOptions options{
        .learning_rate = 0.1, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 0.5, .weight_decay = 0.2, .step = 1};
    ops::adamw(*context, state, t.of(DType::f32, {2}, {4, -1}), t.of(DType::f32, {2}, {9, 0.5}), options);
    const test::Tolerance tolerance = test::tolerance_for(DType::f32);
    const auto stepped = [](double p, double g) { return p * 0.98 - 0.1 * g / (std::abs(g) + 0.5); };
    test::expect_close(state.parameters, t.of(DType::f32, {2}, {stepped(1, 2), stepped(-2, -0.5)}), tolerance,
                       "parameters");
    test::expect_close(state.first_moment, t.of(DType::f32, {2}, {0.2, -0.05}), tolerance, "first_moment");
    test::expect_close(state.second_moment, t.of(DType::f32, {2}, {0.04, 0.0025}), tolerance,
                       "second_moment");
  }
}

TEST(AdamW, BiasCorrectionsOfLaterSteps) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const ops::AdamWState state{t.of(DType::f64, {1}, {1}), t.of(DType::f64, {1}, {0.3}),
                              t.of(DType::f64, {1}, {0.2})};
  const ops::AdamWOptions options{
      .learning_rate = 0.1, .beta1 = 0.5, .beta2 = 0.75, .epsilon = 1e-3, .weight_decay = 0, .step = 3};
  ops::adamw(*context, state, t.of(DType::f64, {1}, {1}), {}, options);
  const double m = 0.5 * 0.3 + 0.5, v = 0.75 * 0.2 + 0.25;
  const double step = m / (1 - 0.125) / (std::sqrt(v / (1 - 0.421875)) + 1e-3);
  EXPECT_NEAR(test::element(state.parameters, 0), 1 - 0.1 * step, 1e-15);
}

TEST(Optimizer, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensor three = t.zeros(DType::f32, {3}), two = t.zeros(DType::f32, {2});
  using test::expect_op_error;
  expect_op_error([&] { ops::gradient_norm(*context, three, three, 1); }, "gradient_norm", "result is");
  expect_op_error([&] { ops::gradient_norm(*context, two, three, -1); }, "gradient_norm", "max_norm -1");
  expect_op_error(
      [&] {
        ops::adamw(*context, {three, two, three}, three, {}, {});
      },
      "adamw", "first_moment is");
  expect_op_error([&] { ops::adamw(*context, {three, three, three}, two, {}, {}); }, "adamw", "gradients is");
  expect_op_error(
      [&] {
        ops::adamw(*context, {three, three, three}, three, three, {});
      },
      "adamw", "norm_and_scale is");
  expect_op_error(
      [&] {
        ops::adamw(*context, {three, three, three}, three, {}, {.step = 0});
      },
      "adamw", "step 0");
}

}  // namespace
}  // namespace braid
