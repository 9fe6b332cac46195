// The gated delta rule on inputs made to break the chunk form.
#include <numeric>

#include "tests/ops/gated_delta_support.h"

namespace braid::test {
namespace {

struct HardCase {
  const char* name;
  void (*change)(const Changes&);
  double factor = 1;  // on the f32 tolerances of ordinary inputs
  Regime regime = Regime::ordinary;
};

// Factors: with |1 − β| near 1 and few directions, errors of many tokens add up before they decay; at β = 2
// without decay on one key those of all 200 do, and they are alike: 200 u over u (4 + 2 sqrt(88)), twice.
const HardCase kHardCases[] = {
    {"no decay", [](const Changes& c) { c.log_decay(0); }},
    {"resets", [](const Changes& c) { c.log_decay([](auto n) { return n % 13 == 5 ? -80.0 : -0.01; }); }},
    {"a whole chunk of resets, then slow decay",
     [](const Changes& c) { c.log_decay([](auto n) { return n < 96 ? -80.0 : -0.0123; }); }},
    {"decay 0 and -20 in turn",
     [](const Changes& c) { c.log_decay([](auto n) { return n % 2 == 0 ? 0.0 : -20.0; }); }},
    {"decay towards the smallest floats", [](const Changes& c) { c.log_decay(-1.4); }},
    {"some beta 0", [](const Changes& c) { c.beta([](auto n) { return n % 3 == 1 ? 0.0 : 1.3; }); }},
    {"some beta tiny",
     [](const Changes& c) { c.beta([](auto n) { return n % 3 == 1   ? 1e-5
                                                       : n % 3 == 2 ? 1e-12
                                                                    : 1.3; }); }},
    {"all beta 0", [](const Changes& c) { c.beta(0); }},
    {"beta 2, no decay",
     [](const Changes& c) {
       c.beta(2);
       c.log_decay(0);
     },
     1, Regime::marginal},
    {"beta 1.99", [](const Changes& c) { c.beta(1.99); }, 1, Regime::marginal},
    {"zero keys and queries",
     [](const Changes& c) {
       c.scale(c.d.in.k, 1, [](auto n) { return n % 5 != 2; });
       c.scale(c.d.in.q, 1, [](auto n) { return n % 4 != 1; });
     }},
    {"keys of the size of epsilon", [](const Changes& c) { c.scale(c.d.in.k, 0x1p-12); }},
    {"large values", [](const Changes& c) { c.scale(c.d.in.v, 0x1p11); }},  // f16 ends at 2^16
    {"keys of alternating sign, beta 1.99",
     [](const Changes& c) {
       c.repeat_keys(1, true);
       c.beta(1.99);
     },
     4, Regime::one_key_beta_1},
    {"keys of rank 4, beta 2, no decay",
     [](const Changes& c) {
       c.repeat_keys(4, false);
       c.beta(2);
       c.log_decay(0);
     },
     4, Regime::one_key_beta_2},
    {"keys alike, beta 1.9, slow decay",
     [](const Changes& c) {
       c.repeat_keys(1, false, 0.5);
       c.beta(1.9);
       c.log_decay(-0.01);
     },
     4, Regime::marginal},
    {"one key, beta 1, no decay",
     [](const Changes& c) {
       c.repeat_keys(1, false);
       c.beta(1);
       c.log_decay(0);
     },
     1, Regime::one_key_beta_1},
    {"one key, beta 1.9, no decay",
     [](const Changes& c) {
       c.repeat_keys(1, false);
       c.beta(1.9);
       c.log_decay(0);
     },
     4, Regime::one_key_beta_19},
    {"one key, beta 2, no decay",
     [](const Changes& c) {
       c.repeat_keys(1, false);
       c.beta(2);
       c.log_decay(0);
     },
     24, Regime::one_key_beta_2},
};

test::Run hard_run(const HardCase& hard, const GatedDeltaCase& c, DeltaMethod method) {
  return [&hard, c, method](Trial& t) {
    Delta d = make_delta(t.tensors, t.dtype, c, method);
    hard.change({t.tensors, d});
    d.run(t.ctx);
    report(t, d, hard.factor, hard.regime);
  };
}

TEST(GatedDelta, HardInputs) {
  for (const auto& hard : kHardCases) {
    for (const auto method : {DeltaMethod::chunked, DeltaMethod::recurrent}) {
      expect_backends_agree(fmt::format("{}, {}", hard.name, kMethodNames[static_cast<int>(method)]),
                            hard_run(hard, {1, 2, 24, 40, {200, 0, 65, 17}}, method));
    }
  }
}

// The same in bf16 with widths that take the tensor cores.
TEST(GatedDelta, HardInputsOnTensorCores) {
  if (!testing_cuda()) GTEST_SKIP() << "needs BRAID_TEST_BACKEND=cuda";
  TestContext reference = reference_context();
  for (const auto& hard : kHardCases) {
    const auto run = hard_run(hard, {1, 2, 32, 48, {200, 0, 65, 17}}, DeltaMethod::chunked);
    const Trial want = run_on(reference, DType::f64, 1, run, DType::bf16);
    expect_results_close(run_on(cuda_context(), DType::bf16, 1, run, DType::bf16), want, hard.name);
  }
}

// All keys equal, β = 1, no decay: the state forgets all but the last value, and every decay's gradient is a
// sum that cancels. Its error is measured by the magnitude of the terms, got from the reference token by
// token: the gradient of the state before the token times that state.
void expect_decay_gradient_cancels(TestContext& tested, DType dtype) {
  const GatedDeltaCase c =
      dtype == DType::bf16 ? GatedDeltaCase{1, 1, 32, 48, {150}} : GatedDeltaCase{1, 1, 24, 40, {150}};
  TestTensors tensors(5, dtype), tested_tensors = tensors_for(tested, 5, dtype);
  const auto make = [&](TestTensors& from, DType t) {
    Delta d = make_delta(from, t, c, DeltaMethod::chunked);
    const Changes changes{from, d};
    changes.repeat_keys(1, false);
    changes.beta(1);
    changes.log_decay(0);
    d.initial = from.zeros(d.initial.dtype, d.initial.shape);
    d.dfinal = from.zeros(d.dfinal.dtype, d.dfinal.shape);
    return d;
  };
  TestContext reference = reference_context();
  const Delta want = make(tensors, DType::f64), got = make(tested_tensors, dtype);
  want.run(*reference);
  got.run(*tested);
  const ConstTensor got_log_decay = tested_tensors.on_host(got.grads.log_decay);

  const ops::Segments one = tensors.segments({1});
  const std::int64_t tokens = want.tokens();
  std::vector<Tensor> states{want.initial};
  const auto token = [&](std::int64_t n) {
    Delta t = want;
    t.in = {rows_of(want.in.q, n, 1), rows_of(want.in.k, n, 1), rows_of(want.in.v, n, 1),
            rows_of(want.in.log_decay, n, 1), rows_of(want.in.beta, n, 1)};
    t.segments = one;
    t.dy = rows_of(want.dy, n, 1);
    t.initial = states[static_cast<std::size_t>(n)];
    make_outputs(t, tensors);
    return t;
  };
  for (std::int64_t n = 0; n < tokens; ++n) {
    const Delta t = token(n);
    ops::gated_delta_forward(*reference, t.y, {}, {t.initial, t.final}, t.in, one, {});
    states.push_back(t.final);
  }
  double terms = 0, error = 0;
  Tensor dstate = want.dfinal;
  for (std::int64_t n = tokens; n-- > 0;) {
    Delta t = token(n);
    t.dfinal = dstate;
    t.run(*reference);
    dstate = t.dinitial;
    double sum = 0;
    for (std::int64_t i = 0; i < dstate.count(); ++i) {
      sum += std::abs(element(dstate, i) * element(t.initial, i));
    }
    terms += sum * sum;
    error += std::pow(element(got_log_decay, n) - element(want.grads.log_decay, n), 2);
  }
  EXPECT_GT(terms, 0);
  EXPECT_LT(std::sqrt(error / terms), dtype == DType::bf16
                                          ? rounded_tolerances(Regime::ordinary).dlog_decay
                                          : tolerance_for(DType::f32, 24 * 40 + 32 * 32).relative_rms);
}

TEST(GatedDelta, DecayGradientThatCancels) {
  for_each_tested(
      [](TestContext& ctx, TestContext&, DType dtype) { expect_decay_gradient_cancels(ctx, dtype); });
}

}  // namespace
}  // namespace braid::test
