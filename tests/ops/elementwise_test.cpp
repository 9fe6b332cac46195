#include "braid/ops/elementwise.h"

#include "tests/support/cases.h"
#include "tests/support/op_errors.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using test::Trial;

// Sizes round SIMD widths and thread blocks.
constexpr std::int64_t kCounts[] = {0, 1, 7, 8, 15, 16, 17, 63, 1000, 16384, 40000};
constexpr test::Tolerance kExact{0, 0};

TEST(Add, BackendsAgree) {
  for (const auto count : kCounts) {
    for (const int aliased : {0, 1, 2}) {  // y is its own, a, or b
      test::expect_backends_agree(fmt::format("count {} aliased {}", count, aliased), [&](Trial& t) {
        const Tensor a = t.tensors.normal("a", t.dtype, {count}), b = t.tensors.normal("b", t.dtype, {count});
        const Tensor y = aliased == 1 ? a : aliased == 2 ? b : t.tensors.make(t.dtype, {count});
        ops::add(t.ctx, y, a, b);
        t.result("y", y);
      });
    }
  }
}

TEST(Fill, BackendsAgree) {
  for (const auto count : kCounts) {
    test::expect_backends_agree(fmt::format("count {}", count), [&](Trial& t) {
      for (const auto dtype : {t.dtype, DType::bf16, DType::f16}) {
        const Tensor y = t.tensors.make(dtype, {count});
        ops::fill(t.ctx, y, 0.15625);
        t.result(std::string(name_of(dtype)), y, kExact);
      }
    });
  }
}

TEST(Copy, BackendsAgreeOnEveryPairOfDtypes) {
  constexpr DType kDTypes[] = {DType::f32, DType::f64, DType::bf16, DType::f16};
  for (const auto from : kDTypes) {
    for (const auto to : kDTypes) {
      for (const auto count : kCounts) {
        const auto name = fmt::format("{} to {}, count {}", name_of(from), name_of(to), count);
        test::expect_backends_agree(name, [&](Trial& t) {
          const Tensor x = t.tensors.normal("x", from, {count}, {.rounded_to = DType::f32});
          const Tensor y = t.tensors.make(to, {1, count});
          ops::copy(t.ctx, y, x);
          t.result("y", y, kExact);
        });
      }
    }
  }
}

TEST(Copy, KnownValues) {
  for (const bool on_cpu : {false, true}) {
    auto context = on_cpu ? test::cpu_context() : test::reference_context();
    test::TestTensors t(1);
    const Tensor x = t.of(DType::f32, {4}, {1, -0.0, 1.00390625, 65504}), y = t.make(DType::bf16, {4});
    ops::copy(*context, y, x);
    test::expect_same(y, t.of(DType::bf16, {4}, {1, -0.0, 1, 65536}), on_cpu ? "cpu" : "reference");
  }
}

TEST(Elementwise, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensor three = t.zeros(DType::f32, {3}), four = t.zeros(DType::f32, {4});
  test::expect_op_error([&] { ops::add(*context, three, four, three); }, "add", "a is");
  test::expect_op_error([&] { ops::add(*context, three, three, t.zeros(DType::f64, {3})); }, "add", "b is");
  test::expect_op_error([&] { ops::copy(*context, three, four); }, "copy", "y is f32 (3), x is f32 (4)");
}

}  // namespace
}  // namespace braid
