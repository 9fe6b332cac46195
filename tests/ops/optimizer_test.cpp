#include "braid/ops/optimizer.h"

#include <cmath>
#include <functional>

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
        const Tensor gradients = t.tensors.normal("gradients", t.accumulator(), {count});
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

using OnBackend = std::function<void(test::TestContext&, std::string_view name)>;
void on_each_backend(const OnBackend& f) {
  if (test::testing_cuda()) return f(test::cuda_context(), "cuda");
  auto reference = test::reference_context(), cpu = test::cpu_context(2);
  f(reference, "reference");
  f(cpu, "cpu");
}

TEST(GradientNorm, BackendsAgreeOnNotFinite) {
  on_each_backend([](test::TestContext& context, std::string_view name) {
    for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      for (const std::int64_t at : {0, 5000, 69999, 70000}) {
        const Trial trial = test::run_on(context, DType::f32, 1, [&](Trial& t) {
          const Tensor gradients = t.tensors.normal("gradients", DType::f32, {70001});
          t.tensors.set(gradients, at, bad);
          const Tensor result = t.tensors.zeros(DType::f32, {2});
          ops::gradient_norm(t.ctx, result, gradients, 1);
          t.result("result", result);
        });
        for (const std::int64_t i : {0, 1}) {
          EXPECT_TRUE(std::isnan(test::element(trial.results[0].tensor, i)))
              << name << " " << bad << " at " << at;
        }
      }
    }
  });
}

// Finite gradients whose norm f32 cannot hold: nothing may be updated with it.
TEST(GradientNorm, BackendsAgreeThatANormBeyondF32IsNotFinite) {
  on_each_backend([](test::TestContext& context, std::string_view name) {
    const Trial trial = test::run_on(context, DType::f32, 1, [&](Trial& t) {
      const Tensor gradients = t.tensors.zeros(DType::f32, {2});
      for (const std::int64_t i : {0, 1}) t.tensors.set(gradients, i, 3e38);
      const Tensor result = t.tensors.zeros(DType::f32, {2});
      ops::gradient_norm(t.ctx, result, gradients, 1);
      t.result("result", result);
    });
    for (const std::int64_t i : {0, 1}) {
      EXPECT_TRUE(std::isnan(test::element(trial.results[0].tensor, i))) << name;
    }
  });
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

Tensor rates_of(test::TestTensors& t, double learning_rate, std::int64_t step,
                const ops::AdamWOptions& options = {}) {
  const auto [rate, correction1, correction2] = ops::AdamWRates::of(learning_rate, step, options);
  return t.of(DType::f64, {3}, {rate, correction1, correction2});
}

// Small parts and large ones, with decay and without: none of them may touch what lies beside it.
TEST(AdamW, BackendsAgreeOverSteps) {
  for (const auto& [scaled, copied] : {std::pair{false, false}, {true, false}, {true, true}}) {
    const auto name = fmt::format("scaled {} copied {}", scaled, copied);
    test::expect_backends_agree(name, [&, scaled = scaled, copied = copied](Trial& t) {
      const DType dtype = t.accumulator();
      const auto named = [](const char* what, std::int64_t count) {
        return fmt::format("{} {}", what, count);
      };
      std::vector<ops::AdamWPart> parts;
      for (const auto count : kCounts) {
        parts.push_back({.parameters = t.tensors.normal(named("parameters", count), dtype, {count}),
                         .first_moment = t.tensors.zeros(dtype, {count}),
                         .second_moment = t.tensors.zeros(dtype, {count}),
                         .gradients = {},
                         .copy = copied ? t.tensors.make(DType::bf16, {count}) : Tensor{},
                         .weight_decay = count % 2 == 0 ? 0.1 : 0});
      }
      const Tensor norm_and_scale = scaled ? t.tensors.of(dtype, {2}, {2.0, 0.25}) : Tensor{};
      for (std::int64_t step = 1; step <= 3; ++step) {
        for (auto& part : parts) {
          part.gradients = t.tensors.normal(fmt::format("gradients {} {}", step, part.parameters.count()),
                                            dtype, part.parameters.shape);
        }
        ops::adamw(t.ctx, parts, norm_and_scale, rates_of(t.tensors, 1e-2, step), {});
      }
      for (const auto& part : parts) {
        const auto count = part.parameters.count();
        t.result(named("parameters", count), part.parameters, 3);
        t.result(named("first_moment", count), part.first_moment, 3);
        t.result(named("second_moment", count), part.second_moment, 3);
        if (copied) t.result(named("copy", count), part.copy);
      }
    });
  }
}

// More parts than one launch takes give what each gives alone.
TEST(AdamW, BackendsAgreeThatPartsAreIndependent) {
  constexpr std::int64_t kParts = 150;
  on_each_backend([](test::TestContext& context, std::string_view name) {
    const auto run = [&](bool together) {
      return test::run_on(context, DType::f32, 1, [&](Trial& t) {
        std::vector<ops::AdamWPart> parts;
        for (std::int64_t i = 0; i < kParts; ++i) {
          const auto named = [&](const char* what) { return fmt::format("{} {}", what, i); };
          const Shape shape{1 + 97 * i % 5000};
          parts.push_back({.parameters = t.tensors.normal(named("p"), DType::f32, shape),
                           .first_moment = t.tensors.normal(named("m"), DType::f32, shape),
                           .second_moment = t.tensors.uniform(named("v"), DType::f32, shape, 0, 2),
                           .gradients = t.tensors.normal(named("g"), DType::f32, shape),
                           .weight_decay = i % 3 == 0 ? 0.1 : 0});
        }
        const Tensor rates = rates_of(t.tensors, 1e-2, 4);
        if (together) ops::adamw(t.ctx, parts, {}, rates, {});
        for (const auto& part : parts) {
          if (!together) ops::adamw(t.ctx, {&part, 1}, {}, rates, {});
          t.result("parameters", part.parameters);
          t.result("second_moment", part.second_moment);
        }
      });
    };
    test::expect_results_same(run(true), run(false), name);
  });
}

ops::AdamWPart make_part(Trial& t, std::int64_t count) {
  return {.parameters = t.tensors.normal("parameters", DType::f32, {count}),
          .first_moment = t.tensors.normal("first", DType::f32, {count}),
          .second_moment = t.tensors.uniform("second", DType::f32, {count}, 0, 2),
          .gradients = t.tensors.normal("gradients", DType::f32, {count}),
          .copy = t.tensors.normal("copy", DType::bf16, {count}, {.rounded_to = DType::bf16}),
          .weight_decay = 0.1};
}
void report(Trial& t, const ops::AdamWPart& part) {
  t.result("parameters", part.parameters);
  t.result("first_moment", part.first_moment);
  t.result("second_moment", part.second_moment);
  t.result("copy", part.copy);
}

// A gradient that is not finite leaves everything as it was, by way of the norm's NaN.
TEST(AdamW, BackendsAgreeThatNanChangesNothing) {
  on_each_backend([](test::TestContext& context, std::string_view name) {
    for (const auto count : kCounts) {
      const Trial before =
          test::run_on(context, DType::f32, 1, [&](Trial& t) { report(t, make_part(t, count)); });
      const Trial after = test::run_on(context, DType::f32, 1, [&](Trial& t) {
        const ops::AdamWPart part = make_part(t, count);
        t.tensors.set(Tensor{part.gradients}, count / 2, HUGE_VAL);
        const Tensor norm_and_scale = t.tensors.make(DType::f32, {2});
        ops::gradient_norm(t.ctx, norm_and_scale, part.gradients, 1);
        ops::adamw(t.ctx, {&part, 1}, norm_and_scale, rates_of(t.tensors, 3e-4, 2), {});
        report(t, part);
      });
      test::expect_results_same(after, before, fmt::format("{} count {}", name, count));
    }
  });
}

TEST(AdamW, BackendsAgreeOnRoundedCopy) {
  on_each_backend([](test::TestContext& context, std::string_view name) {
    for (const auto count : kCounts) {
      const Trial trial = test::run_on(context, DType::f32, 1, [&](Trial& t) {
        const ops::AdamWPart part = make_part(t, count);
        ops::adamw(t.ctx, {&part, 1}, {}, rates_of(t.tensors, 3e-4, 2), {});
        report(t, part);
      });
      const ConstTensor parameters = trial.results[0].tensor, copy = trial.results[3].tensor;
      test::TestTensors rounded(1);
      test::expect_same(copy, rounded.copy_of(parameters, DType::bf16),
                        fmt::format("{} count {}", name, count));
    }
  });
}

// By hand, after Loshchilov & Hutter 2019, algorithm 2: at step 1 both bias corrections undo the averages.
TEST(AdamW, FirstStepByHand) {
  for (const bool on_cpu : {false, true}) {
    auto context = on_cpu ? test::cpu_context() : test::reference_context();
    test::TestTensors t(1);
    const ops::AdamWPart part{.parameters = t.of(DType::f32, {2}, {1, -2}),
                              .first_moment = t.zeros(DType::f32, {2}),
                              .second_moment = t.zeros(DType::f32, {2}),
                              .gradients = t.of(DType::f32, {2}, {4, -1}),
                              .weight_decay = 0.2};
    const ops::AdamWOptions options{.beta1 = 0.9, .beta2 = 0.99, .epsilon = 0.5};
    ops::adamw(*context, {&part, 1}, t.of(DType::f32, {2}, {9, 0.5}), rates_of(t, 0.1, 1, options), options);
    const test::Tolerance tolerance = test::tolerance_for(DType::f32);
    const auto stepped = [](double p, double g) { return p * 0.98 - 0.1 * g / (std::abs(g) + 0.5); };
    test::expect_close(part.parameters, t.of(DType::f32, {2}, {stepped(1, 2), stepped(-2, -0.5)}), tolerance,
                       "parameters");
    test::expect_close(part.first_moment, t.of(DType::f32, {2}, {0.2, -0.05}), tolerance, "first_moment");
    test::expect_close(part.second_moment, t.of(DType::f32, {2}, {0.04, 0.0025}), tolerance, "second_moment");
  }
}

TEST(AdamW, BiasCorrectionsOfLaterSteps) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const ops::AdamWPart part{.parameters = t.of(DType::f64, {1}, {1}),
                            .first_moment = t.of(DType::f64, {1}, {0.3}),
                            .second_moment = t.of(DType::f64, {1}, {0.2}),
                            .gradients = t.of(DType::f64, {1}, {1})};
  const ops::AdamWOptions options{.beta1 = 0.5, .beta2 = 0.75, .epsilon = 1e-3};
  ops::adamw(*context, {&part, 1}, {}, rates_of(t, 0.1, 3, options), options);
  const double m = 0.5 * 0.3 + 0.5, v = 0.75 * 0.2 + 0.25;
  const double step = m / (1 - 0.125) / (std::sqrt(v / (1 - 0.421875)) + 1e-3);
  EXPECT_NEAR(test::element(part.parameters, 0), 1 - 0.1 * step, 1e-15);
}

TEST(Optimizer, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensor three = t.zeros(DType::f32, {3}), two = t.zeros(DType::f32, {2});
  const Tensor rounded = t.zeros(DType::bf16, {2}), rates = rates_of(t, 1e-3, 1);
  using test::expect_op_error;
  expect_op_error([&] { ops::gradient_norm(*context, three, three, 1); }, "gradient_norm", "result is");
  expect_op_error([&] { ops::gradient_norm(*context, two, three, -1); }, "gradient_norm", "max_norm -1");
  const auto update = [&](const ops::AdamWPart& part, const ConstTensor& norm, const ConstTensor& by) {
    return [=, &context] { ops::adamw(*context, {&part, 1}, norm, by, {}); };
  };
  expect_op_error(update({three, two, three, three}, {}, rates), "adamw", "first_moment is");
  expect_op_error(update({three, three, three, two}, {}, rates), "adamw", "gradients is");
  expect_op_error(update({three, three, three, three, rounded}, {}, rates), "adamw", "copy is");
  expect_op_error(update({three, three, three, three}, three, rates), "adamw", "norm_and_scale is");
  expect_op_error(update({three, three, three, three}, {}, two), "adamw", "rates is");
  const Tensor other = t.zeros(DType::f64, {3});
  const ops::AdamWPart mixed[] = {{three, three, three, three}, {other, other, other, other}};
  expect_op_error([&] { ops::adamw(*context, mixed, {}, rates, {}); }, "adamw", "the first part");
}

}  // namespace
}  // namespace braid
