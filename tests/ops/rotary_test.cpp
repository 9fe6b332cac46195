#include "braid/ops/rotary.h"

#include <cmath>

#include "tests/support/cases.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_errors.h"
#include "tests/support/rotary_table.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using ops::Rotation;
using test::Trial;

TEST(Rotary, BackendsAgree) {
  for (const auto& c : test::heads_cases()) {
    for (const std::int64_t tokens : {0, 1, 7, 33}) {
      for (const auto rotation : {Rotation::forward, Rotation::inverse}) {
        for (const bool in_place : {false, true}) {
          const auto name = fmt::format("tokens {} heads {} width {}", tokens, c.heads, c.width);
          test::expect_backends_agree(name, [&](Trial& t) {
            const auto table = test::make_rotary_table(t.ctx, t.tensors, t.accumulator(), c.width, 1.25);
            const Tensor x = t.tensors.normal("x", t.dtype, {tokens, c.heads, c.width});
            const Tensor positions = t.tensors.integers("positions", {tokens}, 0, test::kRotaryPositions);
            const Tensor y = in_place ? x : t.tensors.make(t.dtype, x.shape);
            ops::rotary(t.ctx, y, x, table, positions, rotation);
            t.result("cos", table.cos);
            t.result("sin", table.sin);
            t.result("y", y, 2);
          });
        }
      }
    }
  }
}

// Far positions need f64 angles: in f32, position 100000 has an angle error of 0.004.
TEST(Rotary, TableIsExactAtFarPositions) {
  for (const bool on_cpu : {false, true}) {
    auto context = on_cpu ? test::cpu_context(2) : test::reference_context();
    test::TestTensors t(1);
    const std::int64_t positions = 100001;
    const Tensor cos = t.make(DType::f32, {positions, 1}), sin = t.make(DType::f32, {positions, 1});
    const std::vector<double> frequency{0.7310585786300049};
    ops::rotary_table(*context, cos, sin, frequency, 0.5);
    for (const std::int64_t p : {0, 1, 4097, 100000}) {
      const double angle = static_cast<double>(p) * frequency[0];
      EXPECT_NEAR(test::element(cos, p), 0.5 * std::cos(angle), 3e-8) << p;
      EXPECT_NEAR(test::element(sin, p), 0.5 * std::sin(angle), 3e-8) << p;
    }
  }
}

TEST(Rotary, InverseUndoesForward) {
  for (const auto& c : test::heads_cases()) {
    auto context = test::reference_context();
    test::TestTensors t(1);
    const auto table = test::make_rotary_table(*context, t, DType::f64, c.width);
    const Tensor x = t.normal("x", DType::f64, {9, c.heads, c.width}), y = t.copy_of(x);
    const Tensor positions = t.integers("positions", {9}, 0, test::kRotaryPositions);
    ops::rotary(*context, y, y, table, positions, Rotation::forward);
    EXPECT_FALSE(test::is_close(y, x, {1e-3, 1e-3}, "y"));
    ops::rotary(*context, y, y, table, positions, Rotation::inverse);
    test::expect_close(y, x, test::tolerance_for(DType::f64, 4), "x");
  }
}

// Half-split layout: component i of a head pairs with i + D/2.
TEST(Rotary, QuarterTurn) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const ops::RotaryTable table{t.of(DType::f64, {1, 2}, {0, 1}), t.of(DType::f64, {1, 2}, {1, 0})};
  const Tensor x = t.of(DType::f64, {1, 1, 4}, {1, 2, 3, 4});
  ops::rotary(*context, x, x, table, t.of({0}), Rotation::forward);
  test::expect_same(x, t.of(DType::f64, {1, 1, 4}, {-3, 2, 1, 4}), "x");
}

TEST(Rotary, InverseIsBackwardOfForward) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const auto table = test::make_rotary_table(*context, t, DType::f64, 6, 1.5);
  const Tensor x = t.normal("x", DType::f64, {3, 2, 6}), y = t.make(DType::f64, x.shape);
  const Tensor dy = t.normal("dy", DType::f64, x.shape), dx = t.make(DType::f64, x.shape);
  const Tensor positions = t.of({3, 0, 31});
  ops::rotary(*context, dx, dy, table, positions, Rotation::inverse);
  test::expect_gradient(
      x, dx,
      [&] {
        ops::rotary(*context, y, x, table, positions, Rotation::forward);
        return test::inner_product(y, dy);
      },
      "dx");
}

TEST(Rotary, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const auto table = test::make_rotary_table(*context, t, DType::f32, 4);
  const Tensor x = t.zeros(DType::f32, {2, 1, 4}), positions = t.of({0, 1});
  const auto call = [&](Tensor y, ConstTensor in, ops::RotaryTable with, ConstTensor at) {
    return [=, &context] { ops::rotary(*context, y, in, with, at, Rotation::forward); };
  };
  using test::expect_op_error;
  expect_op_error(call(x, t.zeros(DType::f32, {2, 1, 3}), table, positions), "rotary", "width 3 is odd");
  expect_op_error(call(t.zeros(DType::f32, {2, 2, 4}), x, table, positions), "rotary", "y is");
  expect_op_error(call(x, x, {table.cos, t.zeros(DType::f32, {40, 3})}, positions), "rotary", "table.sin");
  expect_op_error(call(x, x, table, t.of({0})), "rotary", "positions is");
  expect_op_error(call(x, x, table, t.of({0, 40})), "rotary", "positions[1] is 40");
  expect_op_error([&] { ops::rotary_table(*context, x, x, test::rotary_frequencies(4), 1); }, "rotary_table",
                  "cos is");
}

}  // namespace
}  // namespace braid
