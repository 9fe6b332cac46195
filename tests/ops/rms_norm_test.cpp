#include "braid/ops/rms_norm.h"

#include "tests/support/cases.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_errors.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using ops::Accumulate;
using test::Trial;

constexpr ops::RmsNormOptions kOptions{.epsilon = 1e-5};

// A single component is divided by its own size, so that its gradient is nothing but epsilon's part: make
// that part large enough to be compared.
ops::RmsNormOptions options_for(const test::RowsCase& c) {
  return c.width == 1 ? ops::RmsNormOptions{.epsilon = 10} : kOptions;
}

// Rows from one lane's share to several blocks of threads, with widths that no vector divides.
std::vector<test::RowsCase> norm_cases() {
  auto cases = test::rows_cases();
  for (const std::int64_t width : {250, 1001, 3840, 4100, 8193, 12288}) cases.push_back({3, width});
  cases.push_back({700, 192});
  cases.push_back({2100, 512});  // over 4 MiB in whole vectors: the cpu backend stores past the caches
  return cases;
}

// Where the gradient of x goes.
enum class Target { fresh, added, in_place };

// The sum with an addend, which no other output sees.
template <class Norm>
void run_with_addend(Trial& t, const Shape& shape, ops::RmsNormOptions options, Norm&& norm) {
  const Tensor y = t.tensors.make(t.dtype, shape);
  options.addend = t.tensors.normal("addend", t.dtype, shape);
  norm(y, options);
  t.result("y with addend", y, shape[1]);
}

void run_plain(Trial& t, const test::RowsCase& c, Target target) {
  const Shape shape{c.rows, c.width};
  const Tensor x = t.tensors.normal("x", t.dtype, shape), y = t.tensors.make(t.dtype, shape);
  const Tensor weight = t.tensors.normal("weight", t.accumulator(), {c.width}, {.scale = 0.3, .offset = 1});
  const Tensor inverse_rms = t.tensors.make(t.accumulator(), {c.rows});
  ops::rms_norm_forward(t.ctx, y, inverse_rms, x, weight, options_for(c));
  t.result("y", y, c.width);
  t.result("inverse_rms", inverse_rms, c.width);
  run_with_addend(t, shape, options_for(c), [&](const Tensor& sum, const ops::RmsNormOptions& options) {
    ops::rms_norm_forward(t.ctx, sum, inverse_rms, x, weight, options);
  });

  const Tensor dy = t.tensors.normal("dy", t.dtype, shape);
  const Tensor dweight = t.tensors.normal("dweight", t.accumulator(), {c.width});
  const Tensor dx = target == Target::in_place ? dy
                    : target == Target::added  ? t.tensors.normal("dx", t.dtype, shape)
                                               : t.tensors.make(t.dtype, shape);
  ops::rms_norm_backward(t.ctx, dx, dweight, dy, {x, weight, inverse_rms},
                         target == Target::added ? Accumulate::yes : Accumulate::no);
  t.result("dx", dx, c.width);
  t.result("dweight", dweight, c.rows);
}

void run_gated(Trial& t, const test::RowsCase& c) {
  const Shape shape{c.rows, c.width};
  const Tensor x = t.tensors.normal("x", t.dtype, shape), y = t.tensors.make(t.dtype, shape);
  const Tensor gate = t.tensors.normal("gate", t.dtype, shape, {.scale = 4});
  const Tensor weight = t.tensors.normal("weight", t.accumulator(), {c.width}, {.scale = 0.3, .offset = 1});
  const Tensor inverse_rms = t.tensors.make(t.accumulator(), {c.rows});
  ops::gated_rms_norm_forward(t.ctx, y, inverse_rms, x, gate, weight, options_for(c));
  t.result("y", y, c.width);
  t.result("inverse_rms", inverse_rms, c.width);
  run_with_addend(t, shape, options_for(c), [&](const Tensor& sum, const ops::RmsNormOptions& options) {
    ops::gated_rms_norm_forward(t.ctx, sum, inverse_rms, x, gate, weight, options);
  });

  const Tensor dy = t.tensors.normal("dy", t.dtype, shape);
  const Tensor dx = t.tensors.make(t.dtype, shape), dgate = t.tensors.make(t.dtype, shape);
  const Tensor dweight = t.tensors.normal("dweight", t.accumulator(), {c.width});
  ops::gated_rms_norm_backward(t.ctx, dx, dgate, dweight, dy, gate, {x, weight, inverse_rms});
  t.result("dx", dx, c.width);
  t.result("dgate", dgate, c.width);
  t.result("dweight", dweight, c.rows);
}

TEST(RmsNorm, BackendsAgree) {
  for (const auto& c : norm_cases()) {
    for (const auto target : {Target::fresh, Target::added, Target::in_place}) {
      if (c.rows > 2000 && target != Target::fresh) continue;
      const auto name = fmt::format("rows {} width {}, dx {}", c.rows, c.width, static_cast<int>(target));
      test::expect_backends_agree(name, [&](Trial& t) { run_plain(t, c, target); });
    }
  }
}

TEST(GatedRmsNorm, BackendsAgree) {
  for (const auto& c : norm_cases()) {
    const auto name = fmt::format("rows {} width {}", c.rows, c.width);
    test::expect_backends_agree(name, [&](Trial& t) { run_gated(t, c); });
  }
}

void run_before_product(Trial& t, std::int64_t tokens, std::int64_t heads, std::int64_t width,
                        std::int64_t inner) {
  const Shape shape{tokens * heads, width};
  const Tensor x = t.tensors.normal("x", t.dtype, shape), gate = t.tensors.normal("gate", t.dtype, shape);
  const Tensor weight = t.tensors.normal("weight", t.accumulator(), {width});
  const Tensor y = t.tensors.make(t.dtype, shape), inverse_rms = t.tensors.make(t.accumulator(), {shape[0]});
  ops::gated_rms_norm_forward(t.ctx, y, inverse_rms, x, gate, weight, kOptions);
  const Tensor dout = t.tensors.normal("dout", t.dtype, {tokens, inner});
  const Tensor out_weight = t.tensors.normal("out_weight", t.dtype, {inner, heads * width},
                                             {.scale = 1 / std::sqrt(static_cast<double>(inner))});
  const Tensor dx = t.tensors.make(t.dtype, shape), dgate = t.tensors.make(t.dtype, shape);
  const Tensor dweight = t.tensors.normal("dweight", t.accumulator(), {width});
  ops::gated_rms_norm_linear_backward(t.ctx, dx, dgate, dweight, dout, out_weight, gate,
                                      {x, weight, inverse_rms});
  // What the product makes may be rounded too: sqrt(2) units.
  auto tolerance = test::tolerance_for(t.dtype == DType::bf16 ? DType::bf16 : DType::f32, width + inner);
  tolerance.relative_rms *= 1.45;
  t.result("dx", dx, tolerance);
  t.result("dgate", dgate, tolerance);
  t.result("dweight", dweight, tolerance);
}

void expect_before_product(std::int64_t tokens, std::int64_t heads, std::int64_t width, std::int64_t inner) {
  const auto name = fmt::format("{} tokens, {} heads of {}, inner {}", tokens, heads, width, inner);
  test::expect_backends_agree(name, [&](Trial& t) { run_before_product(t, tokens, heads, width, inner); });
}

// Tokens too few for the kernel beside the product, just enough, and not a multiple of its tiles; norms of
// its width and of others; nothing at all.
TEST(GatedRmsNorm, BeforeAProductBackendsAgree) {
  expect_before_product(0, 2, 128, 64);
  expect_before_product(3, 2, 6, 10);
  expect_before_product(1023, 2, 128, 64);
  expect_before_product(1024, 1, 128, 64);
  expect_before_product(1100, 4, 128, 256);
  expect_before_product(1090, 3, 128, 200);
  expect_before_product(1030, 2, 64, 128);
  expect_before_product(1030, 1, 128, 264);
  expect_before_product(1024, 1, 128, 0);
}

// So many heads that a block has 8 or 9 tiles of tokens, and its rings turn.
TEST(GatedRmsNorm, CudaManyTiles) {
  if (!test::testing_cuda()) GTEST_SKIP() << "BRAID_TEST_BACKEND is not cuda";
  expect_before_product(1100, 66, 128, 40);
}

TEST(GatedRmsNorm, BeforeAProductIsItsParts) {
  auto context = test::reference_context();
  test::TestTensors t(2);
  const auto normal = [&](const char* name, const Shape& shape) { return t.normal(name, DType::f64, shape); };
  const Tensor x = normal("x", {6, 5}), gate = normal("gate", {6, 5}), weight = normal("weight", {5});
  const Tensor inverse_rms = normal("inverse_rms", {6}), dout = normal("dout", {2, 4});
  const Tensor out_weight = normal("out_weight", {4, 15}), dy = t.make(DType::f64, {2, 15});
  ops::matmul(*context, dy, dout, out_weight, {});
  Tensor dx[2], dgate[2], dweight[2];
  for (int i = 0; i < 2; ++i) {
    dx[i] = t.make(DType::f64, {6, 5});
    dgate[i] = t.make(DType::f64, {6, 5});
    dweight[i] = t.zeros(DType::f64, {5});
  }
  const ops::RmsNormInputs in{x, weight, inverse_rms};
  ops::gated_rms_norm_linear_backward(*context, dx[0], dgate[0], dweight[0], dout, out_weight, gate, in);
  ops::gated_rms_norm_backward(*context, dx[1], dgate[1], dweight[1], reshaped(dy, {6, 5}), gate, in);
  test::expect_same(dx[0], dx[1], "dx");
  test::expect_same(dgate[0], dgate[1], "dgate");
  test::expect_same(dweight[0], dweight[1], "dweight");
  test::expect_op_error(
      [&] {
        ops::gated_rms_norm_linear_backward(*context, dx[0], dgate[0], dweight[0], dout, dout, gate, in);
      },
      "gated_rms_norm_linear_backward", "out_weight is");
  // As many elements, but tokens of one norm and a half.
  const Tensor uneven = t.make(DType::f64, {4, 15}), rows = t.make(DType::f64, {6, 10});
  const Tensor ten = t.zeros(DType::f64, {10}), out = t.make(DType::f64, {4, 4});
  test::expect_op_error(
      [&] {
        ops::gated_rms_norm_linear_backward(*context, rows, rows, ten, out, uneven, rows,
                                            {rows, ten, inverse_rms});
      },
      "gated_rms_norm_linear_backward", "out_weight is");
}

// The leading case of a norm's epsilon: rows that are all zero, or tiny.
TEST(RmsNorm, ZeroRows) {
  test::expect_backends_agree("zero row", [](Trial& t) {
    const Tensor x = t.tensors.zeros(t.dtype, {2, 20}), y = t.tensors.make(t.dtype, x.shape);
    const Tensor weight = t.tensors.normal("weight", t.accumulator(), {20});
    const Tensor inverse_rms = t.tensors.make(t.accumulator(), {2}), dx = t.tensors.make(t.dtype, x.shape);
    ops::rms_norm_forward(t.ctx, y, inverse_rms, x, weight, kOptions);
    const Tensor dweight = t.tensors.zeros(t.accumulator(), {20}),
                 dy = t.tensors.normal("dy", t.dtype, x.shape);
    ops::rms_norm_backward(t.ctx, dx, dweight, dy, {x, weight, inverse_rms}, Accumulate::no);
    t.result("y", y);
    t.result("inverse_rms", inverse_rms);
    t.result("dx", dx);
    t.result("dweight", dweight);
  });
}

TEST(RmsNorm, GradientIsThatOfDifferences) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Shape shape{3, 5};
  const Tensor x = t.normal("x", DType::f64, shape), weight = t.normal("weight", DType::f64, {5});
  const Tensor y = t.make(DType::f64, shape), dy = t.normal("dy", DType::f64, shape);
  const Tensor inverse_rms = t.make(DType::f64, {3}), dx = t.make(DType::f64, shape);
  const Tensor dweight = t.zeros(DType::f64, {5});
  const auto loss = [&] {
    ops::rms_norm_forward(*context, y, inverse_rms, x, weight, {.epsilon = 0.1});
    return test::inner_product(y, dy);
  };
  loss();
  ops::rms_norm_backward(*context, dx, dweight, dy, {x, weight, inverse_rms}, Accumulate::no);
  test::expect_gradient(x, dx, loss, "dx");
  test::expect_gradient(weight, dweight, loss, "dweight");
}

TEST(GatedRmsNorm, GradientIsThatOfDifferences) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Shape shape{3, 5};
  const Tensor x = t.normal("x", DType::f64, shape), weight = t.normal("weight", DType::f64, {5});
  const Tensor gate = t.normal("gate", DType::f64, shape);
  const Tensor y = t.make(DType::f64, shape), dy = t.normal("dy", DType::f64, shape);
  const Tensor inverse_rms = t.make(DType::f64, {3}), dx = t.make(DType::f64, shape);
  const Tensor dgate = t.make(DType::f64, shape), dweight = t.zeros(DType::f64, {5});
  const auto loss = [&] {
    ops::gated_rms_norm_forward(*context, y, inverse_rms, x, gate, weight, {.epsilon = 0.1});
    return test::inner_product(y, dy);
  };
  loss();
  ops::gated_rms_norm_backward(*context, dx, dgate, dweight, dy, gate, {x, weight, inverse_rms});
  test::expect_gradient(x, dx, loss, "dx");
  test::expect_gradient(gate, dgate, loss, "dgate");
  test::expect_gradient(weight, dweight, loss, "dweight");
}

TEST(RmsNorm, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensor x = t.zeros(DType::f32, {2, 3}), weight = t.zeros(DType::f32, {3});
  const Tensor inverse_rms = t.zeros(DType::f32, {2}), wrong = t.zeros(DType::f32, {4});
  using test::expect_op_error;
  expect_op_error([&] { ops::rms_norm_forward(*context, x, inverse_rms, x, wrong, kOptions); },
                  "rms_norm_forward", "weight is");
  expect_op_error([&] { ops::rms_norm_forward(*context, x, inverse_rms, x, weight, {.addend = wrong}); },
                  "rms_norm_forward", "addend is");
  expect_op_error([&] { ops::rms_norm_forward(*context, x, wrong, x, weight, kOptions); }, "rms_norm_forward",
                  "inverse_rms is");
  expect_op_error(
      [&] {
        ops::rms_norm_backward(*context, x, wrong, x, {x, weight, inverse_rms}, Accumulate::no);
      },
      "rms_norm_backward", "dweight is");
  expect_op_error([&] { ops::gated_rms_norm_forward(*context, x, inverse_rms, x, wrong, weight, kOptions); },
                  "gated_rms_norm_forward", "gate is");
  expect_op_error(
      [&] {
        ops::gated_rms_norm_backward(*context, x, wrong, weight, x, x, {x, weight, inverse_rms});
      },
      "gated_rms_norm_backward", "dgate is");
}

}  // namespace
}  // namespace braid
