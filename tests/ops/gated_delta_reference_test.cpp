// The reference recurrence against finite differences and values by hand.
#include <cmath>
#include <limits>

#include "tests/support/cases.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_errors.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using test::GatedDeltaCase;

struct Tensors {
  Tensor q, k, v, log_decay, beta, initial;
  ops::Segments segments;
  ops::GatedDeltaOptions options;
  Tensor y, final, checkpoints, dy, dfinal;
  ops::GatedDeltaGradients grads;
  Tensor dinitial;

  ops::GatedDeltaInputs in() const { return {q, k, v, log_decay, beta}; }
};

Tensors make_tensors(test::TestTensors& t, const GatedDeltaCase& c, DType dtype = DType::f64) {
  const auto n = test::sum_of(c.lengths), segments = static_cast<std::int64_t>(c.lengths.size());
  const Shape key{n, c.key_heads, c.key_width}, value{n, c.value_heads, c.value_width};
  const Shape gate{n, c.value_heads}, state{segments, c.value_heads, c.key_width, c.value_width};
  Tensors a;
  a.q = t.normal("q", dtype, key);
  a.k = t.normal("k", dtype, key);
  a.v = t.normal("v", dtype, value);
  a.log_decay = t.uniform("log_decay", dtype, gate, -0.5, 0);
  a.beta = t.uniform("beta", dtype, gate, 0, 2);
  a.initial = t.normal("initial", dtype, state);
  a.segments = t.segments(c.lengths);
  a.y = t.make(dtype, value);
  a.final = t.make(dtype, state);
  a.checkpoints = t.make(dtype, ops::gated_delta_checkpoint_shape(a.in(), a.segments));
  a.dy = t.normal("dy", dtype, value);
  a.dfinal = t.normal("dfinal", dtype, state);
  a.grads = {t.make(dtype, key), t.make(dtype, key), t.make(dtype, value), t.make(dtype, gate),
             t.make(dtype, gate)};
  a.dinitial = t.make(dtype, state);
  return a;
}

void forward(Context& ctx, const Tensors& a) {
  ops::gated_delta_forward(ctx, a.y, a.checkpoints, {a.initial, a.final}, a.in(), a.segments, a.options);
}
void backward(Context& ctx, const Tensors& a) {
  ops::gated_delta_backward(ctx, a.grads, {a.dinitial, a.dfinal}, a.dy, a.in(), {a.checkpoints, a.initial},
                            a.segments, a.options);
}

// Steps of the differences. The loss is linear in the initial state, which may be huge.
struct Steps {
  double key = test::kDifferenceStep, initial = 1;
};

// All gradients of Σ y·dy + Σ final·dfinal, those of both states included.
void expect_gradients(const Tensors& a, const std::string& what, Steps steps = {}) {
  SCOPED_TRACE(what);
  auto context = test::reference_context();
  const auto loss = [&] {
    forward(*context, a);
    return test::inner_product(a.y, a.dy) + test::inner_product(a.final, a.dfinal);
  };
  loss();
  backward(*context, a);
  test::expect_gradient(a.q, a.grads.q, loss, "dq", steps.key);
  test::expect_gradient(a.k, a.grads.k, loss, "dk", steps.key);
  test::expect_gradient(a.v, a.grads.v, loss, "dv");
  test::expect_gradient(a.log_decay, a.grads.log_decay, loss, "dlog_decay");
  test::expect_gradient(a.beta, a.grads.beta, loss, "dbeta");
  test::expect_gradient(a.initial, a.dinitial, loss, "dinitial", steps.initial);
}

void scale_by(const Tensor& t, double factor) {
  for (std::int64_t i = 0; i < t.count(); ++i) test::set_element(t, i, test::element(t, i) * factor);
}
void set_all(const Tensor& t, double value) {
  for (std::int64_t i = 0; i < t.count(); ++i) test::set_element(t, i, value);
}

TEST(GatedDeltaReference, GradientIsThatOfDifferences) {
  for (const auto& c : test::small_gated_delta_cases()) {
    test::TestTensors t(1);
    expect_gradients(make_tensors(t, c), to_string(c));
  }
}

// With one component, x / |x| is constant but for the epsilon in the norm: only short vectors have a gradient
// that differences can see, and they need short steps.
TEST(GatedDeltaReference, GradientAtWidthOneAndShortVectors) {
  test::TestTensors t(2);
  for (const std::int64_t width : {1, 3}) {
    const Tensors a = make_tensors(t, {1, 1, width, 1, {4}});
    scale_by(a.q, 1e-3);
    scale_by(a.k, 1e-3);
    expect_gradients(a, fmt::format("width {}", width), {.key = 1e-7});
  }
}

// The initial state is so large that what is left of it after the first decay can be seen.
TEST(GatedDeltaReference, GradientAtExtremeGates) {
  const GatedDeltaCase c{1, 2, 3, 2, {6, 2}};
  for (const double beta : {0.0, 1.0, 2.0}) {
    for (const double log_decay : {0.0, -1e-3, -20.0, -80.0}) {
      test::TestTensors t(2);
      const Tensors a = make_tensors(t, c);
      set_all(a.beta, beta);
      set_all(a.log_decay, log_decay);
      scale_by(a.initial, std::exp(-log_decay));
      expect_gradients(a, fmt::format("beta {} log_decay {}", beta, log_decay),
                       {.initial = std::exp(-log_decay)});
    }
  }
}

TEST(GatedDeltaReference, GradientWithMixedGates) {
  test::TestTensors t(3);
  const Tensors a = make_tensors(t, {1, 1, 3, 2, {12}});
  for (std::int64_t n = 0; n < 12; ++n) {
    if (n % 3 == 1) test::set_element(a.log_decay, n, n % 2 == 0 ? -20 : -80);
    if (n % 3 == 2) test::set_element(a.log_decay, n, 0);
    if (n % 4 == 0) test::set_element(a.beta, n, n % 8 == 0 ? 0 : 2);
  }
  expect_gradients(a, "mixed");
}

TEST(GatedDeltaReference, ZeroKeysAndQueries) {
  test::TestTensors t(4);
  const Tensors a = make_tensors(t, {1, 1, 3, 2, {4}});
  set_all(rows_of(a.k, 1, 1), 0);
  set_all(rows_of(a.q, 2, 1), 0);
  expect_gradients(a, "zero vectors", {.key = 1e-7});
  test::expect_same(rows_of(a.y, 2, 1), t.zeros(DType::f64, {1, 1, 2}), "a zero query reads nothing");
  test::expect_same(rows_of(a.grads.v, 1, 1), t.zeros(DType::f64, {1, 1, 2}), "a zero key writes nothing");
}

// One head, widths 1: k̂ = k / sqrt(k² + 1e-6) is nearly 1, so the recurrence can be followed by hand.
TEST(GatedDeltaReference, KnownValues) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  Tensors a = make_tensors(t, {1, 1, 1, 1, {2}});
  a.q = t.of(DType::f64, {2, 1, 1}, {1e6, -1e6});
  a.k = t.of(DType::f64, {2, 1, 1}, {1e6, 1e6});
  a.v = t.of(DType::f64, {2, 1, 1}, {3, 5});
  a.log_decay = t.of(DType::f64, {2, 1}, {std::log(0.5), 0});
  a.beta = t.of(DType::f64, {2, 1}, {0.5, 2});
  a.initial = t.of(DType::f64, {1, 1, 1, 1}, {8});
  a.options.scale = 10;
  forward(*context, a);
  // S: 8 → 4 + 0.5 (3 − 4) = 3.5 → 3.5 + 2 (5 − 3.5) = 6.5
  test::expect_close(a.y, t.of(DType::f64, {2, 1, 1}, {35, -65}), {1e-15, 1e-15}, "y");
  test::expect_close(a.final, t.of(DType::f64, {1, 1, 1, 1}, {6.5}), {1e-15, 1e-15}, "final");
  test::expect_same(reshaped(a.checkpoints, a.initial.shape), a.initial, "checkpoint");
}

// Stored keys are read back: after writing k → v with β = 1, the query k returns v.
TEST(GatedDeltaReference, RecallsWhatWasWritten) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  Tensors a = make_tensors(t, {1, 1, 4, 3, {3}});
  set_all(a.beta, 1);
  a.q = t.copy_of(a.k);
  a.options.scale = 1;
  forward(*context, a);
  test::expect_close(a.y, a.v, {1e-5, 1e-5}, "y");  // 1e-6 inside the norms
}

TEST(GatedDeltaReference, SplitsPacksAndAliasedStatesEqualTheWhole) {
  auto context = test::reference_context();
  test::TestTensors t(5);
  const GatedDeltaCase c{2, 4, 6, 5, {67, 0, 5}};
  const Tensors packed = make_tensors(t, c);
  forward(*context, packed);
  const Tensor state = t.copy_of(packed.initial);
  std::int64_t begin = 0;
  for (std::int64_t s = 0; s < 3; ++s) {
    const auto length = c.lengths[static_cast<std::size_t>(s)];
    for (const auto& [first, rows] :
         {std::pair{std::int64_t{0}, length / 3}, {length / 3, length - length / 3}}) {
      Tensors part = packed;
      const auto cut = [&, at = begin + first, n = rows](const Tensor& x) { return rows_of(x, at, n); };
      part.q = cut(packed.q);
      part.k = cut(packed.k);
      part.v = cut(packed.v);
      part.log_decay = cut(packed.log_decay);
      part.beta = cut(packed.beta);
      part.y = t.make(DType::f64, part.v.shape);
      part.segments = t.segments({rows});
      part.checkpoints = {};
      part.initial = part.final = rows_of(state, s, 1);
      forward(*context, part);
      test::expect_same(part.y, cut(packed.y), "y");
    }
    begin += length;
  }
  test::expect_same(state, packed.final, "final");
  test::expect_same(rows_of(packed.final, 1, 1), rows_of(packed.initial, 1, 1), "state of the empty segment");
}

// Checkpoints are the states before each 64-token chunk, in the slots of delta_chunk_slot().
TEST(GatedDeltaReference, CheckpointsAreStatesAtChunkStarts) {
  auto context = test::reference_context();
  test::TestTensors t(6);
  const Tensors a = make_tensors(t, {1, 2, 3, 4, {3, 130, 64, 0, 65}});
  forward(*context, a);
  const auto slot = [&](std::int64_t segment, std::int64_t offset, std::int64_t chunk) {
    return rows_of(a.checkpoints, ops::delta_chunk_slot(segment, offset) + chunk, 1);
  };
  test::expect_same(slot(0, 0, 0), rows_of(a.initial, 0, 1), "segment 0");
  test::expect_same(slot(1, 3, 0), rows_of(a.initial, 1, 1), "segment 1");
  test::expect_same(slot(2, 133, 0), rows_of(a.initial, 2, 1), "segment 2");
  test::expect_same(slot(4, 197, 0), rows_of(a.initial, 4, 1), "segment 4");
  for (const std::int64_t chunk : {1, 2}) {
    Tensors head = a;
    const auto cut = [&](const Tensor& x) { return rows_of(x, 3, 64 * chunk); };
    head.q = cut(a.q);
    head.k = cut(a.k);
    head.v = cut(a.v);
    head.log_decay = cut(a.log_decay);
    head.beta = cut(a.beta);
    head.y = t.make(DType::f64, head.v.shape);
    head.segments = t.segments({64 * chunk});
    head.checkpoints = {};
    head.initial = rows_of(a.initial, 1, 1);
    head.final = t.make(DType::f64, head.initial.shape);
    forward(*context, head);
    test::expect_same(slot(1, 3, chunk), head.final, fmt::format("chunk {}", chunk));
  }
}

TEST(GatedDeltaReference, NoStatesMeanZeroStates) {
  auto context = test::reference_context();
  test::TestTensors t(7);
  const GatedDeltaCase c{1, 2, 3, 4, {70, 2}};
  Tensors zero = make_tensors(t, c), none = make_tensors(t, c);
  zero.initial = t.zeros(DType::f64, zero.initial.shape);
  zero.dfinal = t.zeros(DType::f64, zero.dfinal.shape);
  none.initial = none.final = none.dfinal = none.dinitial = {};
  for (const auto* a : {&zero, &none}) {
    forward(*context, *a);
    backward(*context, *a);
  }
  test::expect_same(none.y, zero.y, "y");
  test::expect_same(none.grads.q, zero.grads.q, "dq");
  test::expect_same(none.grads.k, zero.grads.k, "dk");
  test::expect_same(none.grads.v, zero.grads.v, "dv");
  test::expect_same(none.grads.log_decay, zero.grads.log_decay, "dlog_decay");
  test::expect_same(none.grads.beta, zero.grads.beta, "dbeta");
}

// f32 storage changes only the last rounding.
TEST(GatedDeltaReference, F32FollowsF64) {
  auto context = test::reference_context();
  const GatedDeltaCase c{1, 2, 12, 20, {65, 3}};
  test::TestTensors t(8);
  const Tensors single = make_tensors(t, c, DType::f32), exact = make_tensors(t, c);
  for (const auto* a : {&single, &exact}) {
    forward(*context, *a);
    backward(*context, *a);
  }
  const auto tolerance = test::tolerance_for(DType::f32);
  test::expect_close(single.y, exact.y, tolerance, "y");
  test::expect_close(single.final, exact.final, tolerance, "final");
  test::expect_close(single.grads.q, exact.grads.q, tolerance, "dq");
  test::expect_close(single.grads.k, exact.grads.k, tolerance, "dk");
  test::expect_close(single.grads.v, exact.grads.v, tolerance, "dv");
  test::expect_close(single.grads.log_decay, exact.grads.log_decay, tolerance, "dlog_decay");
  test::expect_close(single.grads.beta, exact.grads.beta, tolerance, "dbeta");
  test::expect_close(single.dinitial, exact.dinitial, tolerance, "dinitial");
}

TEST(GatedDeltaReference, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensors good = make_tensors(t, {2, 2, 3, 4, {3, 2}});
  const auto broken = [&](auto&& change) {
    Tensors a = good;
    change(a);
    return [a, &context] { forward(*context, a); };
  };
  using test::expect_op_error;
  const std::string op = "gated_delta_forward";
  const Tensor wrong = t.zeros(DType::f64, {5, 3, 4});
  expect_op_error(broken([&](Tensors& a) { a.k = wrong; }), op, "k is");
  expect_op_error(broken([&](Tensors& a) { a.v = wrong; }), op, "3 value heads cannot share 2");
  expect_op_error(broken([&](Tensors& a) { a.beta = t.zeros(DType::f32, {5, 2}); }), op, "beta is");
  expect_op_error(broken([&](Tensors& a) { a.final = wrong; }), op, "final state is");
  expect_op_error(broken([&](Tensors& a) { a.checkpoints = wrong; }), op, "checkpoints is");
  expect_op_error(broken([&](Tensors& a) {
                    a.segments = t.segments({2, 1});
                    a.checkpoints = {};
                  }),
                  op, "segments.offsets");
  expect_op_error(
      [&] {
        Tensors a = good;
        a.grads.beta = wrong;
        backward(*context, a);
      },
      "gated_delta_backward", "dbeta is");
}

}  // namespace
}  // namespace braid
