#include "braid/ops/short_convolution.h"

#include <array>
#include <cmath>
#include <limits>

#include "tests/support/cases.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_errors.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using test::ConvolutionCase;
using test::Trial;

struct Tensors {
  Tensor x, weight;
  ops::Segments segments;
  ops::QkvOutputs y;
  ops::QkvInputs dy;
  Tensor dx, dweight;
};

// Weights and their gradients have the accumulator dtype.
Tensors make_tensors(test::TestTensors& t, DType dtype, const ConvolutionCase& c) {
  const auto tokens = test::sum_of(c.lengths), channels = c.q + c.k + c.v;
  Tensors a;
  a.x = t.normal("x", dtype, {tokens, channels});
  a.weight = t.normal("weight", accumulator_of(dtype), {channels, c.taps});
  a.segments = t.segments(c.lengths);
  a.y = {t.make(dtype, {tokens, c.q}), t.make(dtype, {tokens, c.k}), t.make(dtype, {tokens, c.v})};
  a.dy = {t.normal("dq", dtype, a.y.q.shape), t.normal("dk", dtype, a.y.k.shape),
          t.normal("dv", dtype, a.y.v.shape)};
  a.dx = t.make(dtype, a.x.shape);
  a.dweight = t.normal("dweight", a.weight.dtype, a.weight.shape);
  return a;
}

void forward(Context& ctx, const Tensors& a, const Tensor& state = {}) {
  ops::short_convolution_forward(ctx, a.y, state, a.x, a.weight, a.segments);
}
void backward(Context& ctx, const Tensors& a) {
  ops::short_convolution_backward(ctx, a.dx, a.dweight, a.dy, a.x, a.weight, a.segments);
}

Tensor make_state(test::TestTensors& t, DType dtype, const ConvolutionCase& c) {
  const auto sequences = static_cast<std::int64_t>(c.lengths.size());
  return t.normal("state", dtype, {sequences, c.taps - 1, c.q + c.k + c.v});
}

TEST(ShortConvolution, BackendsAgree) {
  auto cases = test::convolution_cases();
  cases.push_back({32, 32, 768, 4, {700, 701}});  // over 4 MiB: the cpu backend stores past the caches
  for (const auto& c : cases) {
    test::expect_backends_agree(to_string(c), [&](Trial& t) {
      const Tensors a = make_tensors(t.tensors, t.dtype, c);
      forward(t.ctx, a);
      t.result("q", a.y.q, c.taps);
      t.result("k", a.y.k, c.taps);
      t.result("v", a.y.v, c.taps);
      backward(t.ctx, a);
      t.result("dx", a.dx, c.taps);
      t.result("dweight", a.dweight, test::sum_of(c.lengths));
    });
  }
}

TEST(ShortConvolution, BackendsAgreeWithState) {
  for (const auto& c : test::convolution_cases()) {
    test::expect_backends_agree(to_string(c), [&](Trial& t) {
      const Tensors a = make_tensors(t.tensors, t.dtype, c);
      const Tensor state = make_state(t.tensors, t.dtype, c);
      forward(t.ctx, a, state);
      t.result("q", a.y.q, c.taps);
      t.result("k", a.y.k, c.taps);
      t.result("v", a.y.v, c.taps);
      t.result("state", state, test::Tolerance{0, 0});
    });
  }
}

TEST(ShortConvolution, GradientIsThatOfDifferences) {
  for (const auto& c : test::small_convolution_cases()) {
    auto context = test::reference_context();
    test::TestTensors t(1);
    Tensors a = make_tensors(t, DType::f64, c);
    a.dweight = t.zeros(DType::f64, a.weight.shape);
    const auto loss = [&] {
      forward(*context, a);
      return test::inner_product(a.y.q, a.dy.q) + test::inner_product(a.y.k, a.dy.k) +
             test::inner_product(a.y.v, a.dy.v);
    };
    backward(*context, a);
    test::expect_gradient(a.x, a.dx, loss, "dx, " + to_string(c));
    test::expect_gradient(a.weight, a.dweight, loss, "dweight, " + to_string(c));
  }
}

// The last tap meets the token itself; q, k and v take the channels in turn.
TEST(ShortConvolution, KnownValues) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  Tensors a = make_tensors(t, DType::f64, {1, 1, 1, 2, {2}});
  a.x = t.of(DType::f64, {2, 3}, {1, 2, 3, 4, 5, 6});
  a.weight = t.of(DType::f64, {3, 2}, {10, 1, 0, 1, -1, 0});
  forward(*context, a);
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  const test::Tolerance tolerance = test::tolerance_for(DType::f64);
  test::expect_close(a.y.q, t.of(DType::f64, {2, 1}, {silu(1), silu(14)}), tolerance, "q");
  test::expect_close(a.y.k, t.of(DType::f64, {2, 1}, {silu(2), silu(5)}), tolerance, "k");
  test::expect_close(a.y.v, t.of(DType::f64, {2, 1}, {0, silu(-3)}), tolerance, "v");
}

// Rows [begin, begin + length) of a, as a call of its own.
Tensors part_of(test::TestTensors& t, const Tensors& a, std::int64_t begin, std::int64_t length) {
  const auto part = [&](const ConstTensor& x) { return Tensor{rows_of(x, begin, length)}; };
  Tensors p = a;
  p.x = part(a.x);
  p.dx = part(a.dx);
  p.segments = t.segments({length});
  p.y = {part(a.y.q), part(a.y.k), part(a.y.v)};
  p.dy = {part(a.dy.q), part(a.dy.k), part(a.dy.v)};
  return p;
}

Tensors fresh_outputs(test::TestTensors& t, Tensors a) {
  a.y = {t.make(a.y.q.dtype, a.y.q.shape), t.make(a.y.k.dtype, a.y.k.shape),
         t.make(a.y.v.dtype, a.y.v.shape)};
  a.dx = t.make(a.dx.dtype, a.dx.shape);
  return a;
}

void expect_same_outputs(const Tensors& got, const Tensors& want, std::string_view what) {
  test::expect_same(got.y.q, want.y.q, fmt::format("{}: q", what));
  test::expect_same(got.y.k, want.y.k, fmt::format("{}: k", what));
  test::expect_same(got.y.v, want.y.v, fmt::format("{}: v", what));
}

TEST(ShortConvolution, AnySplitWithStateEqualsTheWhole) {
  for (const bool on_cpu : {false, true}) {
    auto context = on_cpu ? test::cpu_context(2, Arithmetic::strict) : test::reference_context();
    for (const std::int64_t taps : {1, 2, 4, 5}) {
      test::TestTensors t(1);
      const ConvolutionCase c{12, 5, 20, taps, {23}};
      const Tensors whole = make_tensors(t, DType::f32, c), split = fresh_outputs(t, whole);
      forward(*context, whole);
      const Tensor state = t.zeros(DType::f32, {1, taps - 1, 37});
      std::int64_t begin = 0;
      for (const std::int64_t length : {1, 0, 2, 1, 1, 3, 10, 0, 5}) {
        forward(*context, part_of(t, split, begin, length), state);
        begin += length;
      }
      ASSERT_EQ(begin, 23);
      const auto what = fmt::format("{} taps {}", on_cpu ? "cpu" : "reference", taps);
      expect_same_outputs(split, whole, what);
      test::expect_same(state, reshaped(rows_of(whole.x, 23 - (taps - 1), taps - 1), state.shape),
                        what + ": state");
    }
  }
}

// Calls of any lengths, two sequences at a time, that hand the state on.
TEST(ShortConvolution, BackendsAgreeOverCalls) {
  const std::vector<test::Lengths> calls{{1, 1}, {0, 2}, {1, 70}, {3, 0}, {1, 1}, {2, 1}, {40, 33}, {1, 0}};
  for (const std::int64_t taps : {1, 2, 4, 5}) {
    for (const auto& [q, k, v] : {std::array{16, 8, 24}, std::array{12, 5, 20}}) {
      const ConvolutionCase c{q, k, v, taps, {1, 1}};
      test::expect_backends_agree(to_string(c), [&](Trial& t) {
        const Tensors all = make_tensors(t.tensors, t.dtype, c);
        const Tensor state = make_state(t.tensors, t.dtype, c);
        for (std::size_t i = 0; i < calls.size(); ++i) {
          const auto tokens = test::sum_of(calls[i]);
          Tensors a = all;
          a.x = t.tensors.normal(fmt::format("x {}", i), t.dtype, {tokens, q + k + v});
          a.segments = t.tensors.segments(calls[i]);
          a.y = {t.tensors.make(t.dtype, {tokens, q}), t.tensors.make(t.dtype, {tokens, k}),
                 t.tensors.make(t.dtype, {tokens, v})};
          forward(t.ctx, a, state);
          t.result(fmt::format("q {}", i), a.y.q, taps);
          t.result(fmt::format("k {}", i), a.y.k, taps);
          t.result(fmt::format("v {}", i), a.y.v, taps);
        }
        t.result("state", state, test::Tolerance{0, 0});
      });
    }
  }
}

TEST(ShortConvolution, PackedSegmentsEqualSeparateOnes) {
  for (const bool on_cpu : {false, true}) {
    auto context = on_cpu ? test::cpu_context(2, Arithmetic::strict) : test::reference_context();
    test::TestTensors t(1);
    const ConvolutionCase c{12, 5, 20, 4, {17, 0, 1, 66, 2}};
    const Tensors packed = make_tensors(t, DType::f32, c), separate = fresh_outputs(t, packed);
    forward(*context, packed);
    backward(*context, packed);
    std::int64_t begin = 0;
    for (const auto length : c.lengths) {
      const Tensors alone = part_of(t, separate, begin, length);
      forward(*context, alone);
      backward(*context, alone);
      begin += length;
    }
    expect_same_outputs(separate, packed, on_cpu ? "cpu" : "reference");
    test::expect_same(separate.dx, packed.dx, on_cpu ? "cpu dx" : "reference dx");
  }
}

TEST(ShortConvolution, NanStaysInItsSegment) {
  for (const bool on_cpu : {false, true}) {
    auto context = on_cpu ? test::cpu_context(2, Arithmetic::strict) : test::reference_context();
    test::TestTensors t(1);
    const ConvolutionCase c{12, 5, 20, 4, {17, 5, 30}};
    const Tensors clean = make_tensors(t, DType::f32, c), dirty = make_tensors(t, DType::f32, c);
    for (const ConstTensor& x : {ConstTensor{dirty.x}, dirty.dy.q, dirty.dy.k, dirty.dy.v}) {
      const Tensor middle{rows_of(x, 17, 5)};
      for (std::int64_t i = 0; i < middle.count(); ++i) {
        test::set_element(middle, i, std::numeric_limits<double>::quiet_NaN());
      }
    }
    for (const auto* a : {&clean, &dirty}) {
      forward(*context, *a);
      backward(*context, *a);
    }
    for (const auto& [begin, rows] : {std::pair{0, 17}, std::pair{22, 30}}) {
      const Tensors got = part_of(t, dirty, begin, rows), want = part_of(t, clean, begin, rows);
      expect_same_outputs(got, want, on_cpu ? "cpu" : "reference");
      test::expect_same(got.dx, want.dx, "dx");
    }
  }
}

TEST(ShortConvolution, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensors good = make_tensors(t, DType::f32, {2, 2, 4, 4, {3, 2}});
  const auto broken = [&](auto&& change) {
    Tensors a = good;
    change(a);
    return [a, &context] { forward(*context, a); };
  };
  using test::expect_op_error;
  const std::string op = "short_convolution_forward";
  expect_op_error(broken([&](Tensors& a) { a.weight = t.zeros(DType::f32, {7, 4}); }), op, "weight is");
  expect_op_error(broken([&](Tensors& a) { a.y.q = t.zeros(DType::f32, {4, 2}); }), op, "q is");
  expect_op_error(broken([&](Tensors& a) { a.y.v = t.zeros(DType::f32, {5, 3}); }), op, "2 + 2 + 3 channels");
  expect_op_error(broken([&](Tensors& a) { a.segments = t.segments({3, 3}); }), op, "segments.offsets");
  expect_op_error([&] { forward(*context, good, t.zeros(DType::f32, {2, 4, 8})); }, op, "state is");
  expect_op_error(
      [&] {
        Tensors a = good;
        a.dx = t.zeros(DType::f64, a.x.shape);
        backward(*context, a);
      },
      "short_convolution_backward", "dx is");
}

}  // namespace
}  // namespace braid
