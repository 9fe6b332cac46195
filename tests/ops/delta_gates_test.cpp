#include "braid/ops/delta_gates.h"

#include <cmath>

#include "tests/support/cases.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_errors.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using test::Trial;

// ab reaches far into both tails of softplus and sigmoid for a large `spread`.
void run(Trial& t, std::int64_t tokens, std::int64_t heads, double spread, double beta_scale) {
  const Tensor ab = t.tensors.normal("ab", t.accumulator(), {tokens, 2 * heads}, {.scale = spread});
  const Tensor a_log = t.tensors.uniform("a_log", t.accumulator(), {heads}, 0, std::log(16));
  const Tensor dt_bias = t.tensors.normal("dt_bias", t.accumulator(), {heads}, {.offset = -3});
  const Tensor log_decay = t.tensors.make(t.accumulator(), {tokens, heads});
  const Tensor beta = t.tensors.make(t.accumulator(), {tokens, heads});
  ops::delta_gates_forward(t.ctx, log_decay, beta, {ab, a_log, dt_bias}, {.beta_scale = beta_scale});
  t.result("log_decay", log_decay);
  t.result("beta", beta);

  // Of one sign: the sums over tokens must not cancel, or their relative error would mean nothing.
  const Tensor dlog_decay = t.tensors.uniform("dlog_decay", t.accumulator(), {tokens, heads}, 0.5, 1.5);
  const Tensor dbeta = t.tensors.normal("dbeta", t.accumulator(), {tokens, heads});
  const Tensor dab = t.tensors.make(t.dtype, ab.shape);
  const Tensor da_log = t.tensors.normal("da_log", t.accumulator(), {heads});
  const Tensor ddt_bias = t.tensors.normal("ddt_bias", t.accumulator(), {heads});
  ops::delta_gates_backward(t.ctx, {dab, da_log, ddt_bias}, dlog_decay, dbeta, {ab, a_log, dt_bias},
                            {.beta_scale = beta_scale});
  t.result("dab", dab);
  t.result("da_log", da_log, tokens);
  t.result("ddt_bias", ddt_bias, tokens);
}

TEST(DeltaGates, BackendsAgree) {
  for (const std::int64_t tokens : {0, 1, 2, 17, 65, 129, 1000}) {
    for (const std::int64_t heads : {1, 2, 3, 16, 30}) {
      for (const double spread : {1.0, 30.0}) {
        if (spread > 1 && tokens * heads < 16) continue;  // perhaps all of them saturated: gradients near 0
        const auto name = fmt::format("tokens {} heads {} spread {}", tokens, heads, spread);
        test::expect_backends_agree(name, [&](Trial& t) { run(t, tokens, heads, spread, 2); });
      }
    }
  }
}

TEST(DeltaGates, BetaScaleOne) {
  test::expect_backends_agree("beta_scale 1", [](Trial& t) { run(t, 33, 5, 2, 1); });
}

TEST(DeltaGates, KnownValuesAndTails) {
  for (const bool on_cpu : {false, true}) {
    auto context = on_cpu ? test::cpu_context() : test::reference_context();
    test::TestTensors t(1);
    const Tensor ab = t.of(DType::f32, {4, 2}, {0, 0, 200, 200, -200, -200, -20, -20});
    const Tensor log_decay = t.make(DType::f32, {4, 1}), beta = t.make(DType::f32, {4, 1});
    const ops::DeltaGateInputs in{ab, t.of(DType::f32, {1}, {std::log(2)}), t.of(DType::f32, {1}, {0})};
    ops::delta_gates_forward(*context, log_decay, beta, in, {});
    const double tiny = std::exp(-20.0);
    const std::vector<double> decays{-2 * std::log(2), -400, 0, -2 * tiny}, betas{1, 2, 0, 2 * tiny};
    for (std::int64_t i = 0; i < 4; ++i) {
      const auto at = static_cast<std::size_t>(i);
      EXPECT_NEAR(test::element(log_decay, i), decays[at], 1e-6 * std::abs(decays[at]) + 1e-37) << on_cpu;
      EXPECT_NEAR(test::element(beta, i), betas[at], 1e-6 * betas[at] + 1e-37) << on_cpu;
      EXPECT_LE(test::element(log_decay, i), 0);
    }
  }
}

TEST(DeltaGates, GradientIsThatOfDifferences) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Shape shape{3, 2};
  const Tensor ab = t.normal("ab", DType::f64, {3, 4}), a_log = t.normal("a_log", DType::f64, {2});
  const Tensor dt_bias = t.normal("dt_bias", DType::f64, {2});
  const Tensor log_decay = t.make(DType::f64, shape), beta = t.make(DType::f64, shape);
  const Tensor dlog_decay = t.normal("dlog_decay", DType::f64, shape),
               dbeta = t.normal("db", DType::f64, shape);
  const Tensor dab = t.make(DType::f64, {3, 4}), da_log = t.zeros(DType::f64, {2});
  const Tensor ddt_bias = t.zeros(DType::f64, {2});
  const ops::DeltaGateInputs in{ab, a_log, dt_bias};
  ops::delta_gates_backward(*context, {dab, da_log, ddt_bias}, dlog_decay, dbeta, in, {.beta_scale = 2});
  const auto loss = [&] {
    ops::delta_gates_forward(*context, log_decay, beta, in, {.beta_scale = 2});
    return test::inner_product(log_decay, dlog_decay) + test::inner_product(beta, dbeta);
  };
  test::expect_gradient(ab, dab, loss, "dab");
  test::expect_gradient(a_log, da_log, loss, "da_log");
  test::expect_gradient(dt_bias, ddt_bias, loss, "ddt_bias");
}

TEST(DeltaGates, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensor ab = t.zeros(DType::f32, {3, 4}), head = t.zeros(DType::f32, {2});
  const Tensor gate = t.zeros(DType::f32, {3, 2}), wrong = t.zeros(DType::f32, {3});
  const auto call = [&](Tensor log_decay, Tensor beta, ops::DeltaGateInputs in) {
    return [=, &context] { ops::delta_gates_forward(*context, log_decay, beta, in, {}); };
  };
  using test::expect_op_error;
  expect_op_error(call(gate, gate, {ab, wrong, head}), "delta_gates_forward", "ab is");
  expect_op_error(call(gate, gate, {ab, head, wrong}), "delta_gates_forward", "dt_bias is");
  expect_op_error(call(wrong, gate, {ab, head, head}), "delta_gates_forward", "log_decay is");
  expect_op_error(call(gate, t.zeros(DType::f64, {3, 2}), {ab, head, head}), "delta_gates_forward",
                  "beta is");
  expect_op_error(
      [&] {
        ops::delta_gates_backward(*context, {ab, wrong, head}, gate, gate, {ab, head, head}, {});
      },
      "delta_gates_backward", "da_log is");
}

}  // namespace
}  // namespace braid
