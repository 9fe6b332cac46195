#include "braid/ops/swiglu.h"

#include "braid/ops/elementwise.h"
#include "braid/ops/matmul.h"
#include "tests/support/cases.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_errors.h"
#include "tests/support/repeats.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using test::Trial;

TEST(Swiglu, BackendsAgree) {
  auto cases = test::rows_cases();
  cases.push_back({1100, 1024});  // over 4 MiB in whole vectors: the cpu backend stores past the caches
  for (const auto& c : cases) {
    for (const double spread : {1.0, 40.0}) {  // 40: exp overflows f32 on one side and vanishes on the other
      for (const bool in_place : {false, true}) {
        if (c.rows > 1000 && (spread > 1 || in_place)) continue;
        const auto name = fmt::format("rows {} width {} spread {}", c.rows, c.width, spread);
        test::expect_backends_agree(name, [&](Trial& t) {
          const Tensor gate_up =
              t.tensors.normal("gate_up", t.dtype, {c.rows, 2 * c.width}, {.scale = spread});
          const Tensor y = t.tensors.make(t.dtype, {c.rows, c.width});
          ops::swiglu_forward(t.ctx, y, gate_up);
          t.result("y", y);
          const Tensor dy = t.tensors.normal("dy", t.dtype, y.shape);
          const Tensor dgate_up = in_place ? gate_up : t.tensors.make(t.dtype, gate_up.shape);
          ops::swiglu_backward(t.ctx, dgate_up, dy, gate_up);
          t.result("dgate_up", dgate_up);
        });
      }
    }
  }
}

TEST(Swiglu, GradientIsThatOfDifferences) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensor gate_up = t.normal("gate_up", DType::f64, {3, 10}), y = t.make(DType::f64, {3, 5});
  const Tensor dy = t.normal("dy", DType::f64, y.shape), dgate_up = t.make(DType::f64, gate_up.shape);
  ops::swiglu_backward(*context, dgate_up, dy, gate_up);
  test::expect_gradient(
      gate_up, dgate_up,
      [&] {
        ops::swiglu_forward(*context, y, gate_up);
        return test::inner_product(y, dy);
      },
      "dgate_up");
}

TEST(Swiglu, GateComesFirst) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensor y = t.make(DType::f64, {1, 2});
  ops::swiglu_forward(*context, y, t.of(DType::f64, {1, 4}, {0, 1000, 5, 7}));
  test::expect_same(y, t.of(DType::f64, {1, 2}, {0, 7000}), "y");
}

enum class Kept : bool { no, yes };

void run_linear(Trial& t, std::int64_t rows, std::int64_t width, std::int64_t inner, Kept kept = Kept::no) {
  const Tensor x = t.tensors.normal("x", t.dtype, {rows, inner});
  const Tensor weight = t.tensors.normal("weight", t.dtype, {2 * width, inner},
                                         {.scale = 1 / std::sqrt(static_cast<double>(inner))});
  const Tensor y = t.tensors.make(t.dtype, {rows, width});
  const Tensor gate_up = kept == Kept::yes ? t.tensors.make(t.dtype, {rows, 2 * width}) : Tensor{};
  ops::swiglu_linear(t.ctx, y, gate_up, x, weight);
  if (kept == Kept::yes) t.result("gate_up", gate_up, test::tolerance_for(t.dtype, inner));
  // Gate and up are rounded before y is: an error of sqrt(3) units in the RMS.
  auto tolerance = test::tolerance_for(t.dtype == DType::bf16 ? DType::bf16 : DType::f32, inner);
  tolerance.relative_rms *= 1.75;
  t.result("y", y, tolerance);
}

// Rows and sizes for each way of computing it, odd ones among them; 17001 columns take several turns.
TEST(SwigluLinear, BackendsAgree) {
  struct Case {
    std::int64_t rows, width, inner;
  };
  for (const Case& c : {Case{0, 3, 8}, Case{1, 7, 40}, Case{2, 33, 520}, Case{5, 64, 33}, Case{8, 130, 264},
                        Case{9, 70, 520}, Case{16, 9, 1032}, Case{16, 2000, 264}, Case{12, 17001, 24},
                        Case{23, 129, 1544}, Case{32, 300, 40}, Case{40, 65, 64}}) {
    test::expect_backends_agree(fmt::format("{} rows, width {}, inner {}", c.rows, c.width, c.inner),
                                [&](Trial& t) { run_linear(t, c.rows, c.width, c.inner); });
  }
}

// So long that every place of the ring is filled more than once; one, two and four multiprocessors share
// columns. The last two have several groups of columns to a warp.
TEST(SwigluLinear, CudaLongRings) {
  if (!test::testing_cuda()) GTEST_SKIP() << "BRAID_TEST_BACKEND is not cuda";
  std::int64_t rows = 16;  // or 31: one or two of the tensor cores' tiles
  for (const auto& [width, inner] :
       {std::pair{1037, 3496}, {510, 6968}, {574, 6968}, {2113, 1544}, {4225, 2056}}) {
    test::expect_backends_agree(fmt::format("{} rows, width {}, inner {}", rows, width, inner),
                                [&](Trial& t) { run_linear(t, rows, width, inner); });
    rows = 47 - rows;
  }
}

void run_linear_backward(Trial& t, std::int64_t rows, std::int64_t width, std::int64_t inner, bool in_place) {
  const Tensor dout = t.tensors.normal("dout", t.dtype, {rows, inner});
  const Tensor weight = t.tensors.normal("weight", t.dtype, {inner, width},
                                         {.scale = 1 / std::sqrt(static_cast<double>(inner))});
  const Tensor gate_up = t.tensors.normal("gate_up", t.dtype, {rows, 2 * width}, {.scale = 2});
  const Tensor dgate_up = in_place ? gate_up : t.tensors.make(t.dtype, gate_up.shape);
  ops::swiglu_linear_backward(t.ctx, dgate_up, dout, weight, gate_up);
  // The gradient of y may be rounded too: sqrt(2) units.
  auto tolerance = test::tolerance_for(t.dtype == DType::bf16 ? DType::bf16 : DType::f32, inner);
  tolerance.relative_rms *= 1.45;
  t.result("dgate_up", dgate_up, tolerance);
}

void run_training(std::int64_t rows, std::int64_t width, std::int64_t inner, bool in_place) {
  const auto name = fmt::format("{} rows, width {}, inner {}", rows, width, inner);
  test::expect_backends_agree(name, [&](Trial& t) { run_linear(t, rows, width, inner, Kept::yes); });
  test::expect_backends_agree(fmt::format("{}, backward, in place {}", name, in_place),
                              [&](Trial& t) { run_linear_backward(t, rows, width, inner, in_place); });
}

// Rows too few for the kernels beside products, just enough, and not a multiple of their tiles; inner sizes
// of whole boxes and others; more columns than one block has, and numbers that none divides; nothing at all.
TEST(SwigluLinear, KeptAndBackwardBackendsAgree) {
  for (const bool in_place : {false, true}) {
    run_training(1024, 128, 64, in_place);
    run_training(1100, 256, 128, in_place);
  }
  run_training(7, 128, 64, false);
  run_training(1023, 128, 64, true);
  run_training(1030, 384, 256, true);
  run_training(1091, 128, 200, false);
  run_training(1090, 120, 64, true);
  run_training(1030, 128, 264, false);
  run_training(1030, 128, 33, true);
  run_training(0, 128, 64, false);
  run_training(1024, 0, 64, false);
  run_training(1024, 128, 0, false);
  test::expect_backends_agree("not kept", [&](Trial& t) { run_linear(t, 1100, 256, 72); });
}

// So wide that a block has 8 or 9 tiles of rows, and its rings turn.
TEST(SwigluLinear, CudaManyTiles) {
  if (!test::testing_cuda()) GTEST_SKIP() << "BRAID_TEST_BACKEND is not cuda";
  run_training(1100, 8448, 40, true);
}

TEST(SwigluLinear, CudaRepeatsItsBits) {
  if (!test::testing_cuda()) GTEST_SKIP() << "BRAID_TEST_BACKEND is not cuda";
  test::TestContext& context = test::cuda_context();
  Context ctx = *context;
  test::TestTensors tensors(6, DType::bf16, test::Contents::real, context.backend().memory);
  const Tensor x = tensors.normal("x", DType::bf16, {17'664, 256});
  const Tensor weight = tensors.normal("weight", DType::bf16, {2048, 256}, {.scale = 0.06});
  test::expect_same_again([&] {
    const Tensor y = tensors.make(DType::bf16, {17'664, 1024});
    const Tensor kept = tensors.make(DType::bf16, {17'664, 2048});
    ops::swiglu_linear(ctx, y, kept, x, weight);
    return std::vector{tensors.on_host(y), tensors.on_host(kept)};
  });
}

TEST(SwigluLinear, BackwardIsThatOfDifferences) {
  auto context = test::reference_context();
  test::TestTensors t(3);
  const Tensor gate_up = t.normal("gate_up", DType::f64, {3, 10}), y = t.make(DType::f64, {3, 5});
  const Tensor weight = t.normal("weight", DType::f64, {4, 5}), out = t.make(DType::f64, {3, 4});
  const Tensor dout = t.normal("dout", DType::f64, out.shape), dgate_up = t.make(DType::f64, gate_up.shape);
  ops::swiglu_linear_backward(*context, dgate_up, dout, weight, gate_up);
  test::expect_gradient(
      gate_up, dgate_up,
      [&] {
        ops::swiglu_forward(*context, y, gate_up);
        ops::matmul(*context, out, y, weight, {.b = ops::Transpose::yes});
        return test::inner_product(out, dout);
      },
      "dgate_up");
}

// What is dropped and made again in backward has the same bits, on cuda beside products and alone.
TEST(SwigluLinear, MadeAgainHasTheSameBits) {
  auto own = test::cpu_context();
  auto& context = test::testing_cuda() ? test::cuda_context() : own;
  const auto run = [&](DType dtype, bool again) {
    return test::run_on(
        context, dtype, 5,
        [&](Trial& t) {
          const Tensor x = t.tensors.normal("x", t.dtype, {1100, 128});
          const Tensor weight = t.tensors.normal("weight", t.dtype, {512, 128}, {.scale = 0.2});
          const Tensor y = t.tensors.make(t.dtype, {1100, 256}),
                       gate_up = t.tensors.make(t.dtype, {1100, 512});
          ops::swiglu_linear(t.ctx, y, gate_up, x, weight);
          if (again) {
            ops::fill(t.ctx, y, 0);
            ops::swiglu_forward(t.ctx, y, gate_up);
          }
          t.result("y", y);
        },
        dtype);
  };
  test::expect_results_same(run(DType::f32, true), run(DType::f32, false), "f32");
  if (!test::testing_cuda()) return;
  test::expect_results_same(run(DType::bf16, true), run(DType::bf16, false), "bf16");
}

TEST(SwigluLinear, IsItsParts) {
  auto context = test::reference_context();
  test::TestTensors t(4);
  const Tensor x = t.normal("x", DType::f64, {3, 7}), weight = t.normal("weight", DType::f64, {10, 7});
  const Tensor y = t.make(DType::f64, {3, 5}), want = t.make(DType::f64, {3, 5});
  const Tensor gate_up = t.make(DType::f64, {3, 10});
  const Tensor kept = t.make(DType::f64, {3, 10});
  ops::swiglu_linear(*context, y, kept, x, weight);
  ops::matmul(*context, gate_up, x, weight, {.b = ops::Transpose::yes});
  ops::swiglu_forward(*context, want, gate_up);
  test::expect_same(y, want, "y");
  test::expect_same(kept, gate_up, "gate_up");
  ops::fill(*context, y, 0);
  ops::swiglu_linear(*context, y, Tensor{}, x, weight);
  test::expect_same(y, want, "y, gate_up not kept");
}

TEST(Swiglu, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensor y = t.zeros(DType::f32, {2, 3}), gate_up = t.zeros(DType::f32, {2, 6});
  const Tensor wide = t.zeros(DType::f64, {2, 6});
  using test::expect_op_error;
  expect_op_error([&] { ops::swiglu_forward(*context, y, y); }, "swiglu_forward", "gate_up is");
  expect_op_error([&] { ops::swiglu_forward(*context, y, wide); }, "swiglu_forward", "gate_up is");
  expect_op_error([&] { ops::swiglu_backward(*context, y, y, gate_up); }, "swiglu_backward", "dgate_up is");
  const Tensor x = t.zeros(DType::f32, {2, 5}), weight = t.zeros(DType::f32, {6, 5});
  const Tensor none;
  expect_op_error([&] { ops::swiglu_linear(*context, gate_up, none, x, weight); }, "swiglu_linear",
                  "weight is");
  expect_op_error([&] { ops::swiglu_linear(*context, y, none, wide, weight); }, "swiglu_linear", "x is");
  expect_op_error([&] { ops::swiglu_linear(*context, y, y, x, weight); }, "swiglu_linear", "gate_up is");
  const Tensor down = t.zeros(DType::f32, {5, 3});
  const auto backward = [&](Tensor dgate_up, ConstTensor dout, ConstTensor w, ConstTensor kept) {
    return [=, &context] { ops::swiglu_linear_backward(*context, dgate_up, dout, w, kept); };
  };
  expect_op_error(backward(gate_up, x, weight, gate_up), "swiglu_linear_backward", "weight is");
  expect_op_error(backward(gate_up, x, down, y), "swiglu_linear_backward", "gate_up is");
  expect_op_error(backward(y, x, down, gate_up), "swiglu_linear_backward", "dgate_up is");
}

}  // namespace
}  // namespace braid
