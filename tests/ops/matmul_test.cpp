#include "braid/ops/matmul.h"

#include "tests/support/cases.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_errors.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using ops::Accumulate;
using ops::Transpose;
using test::Trial;

struct Variant {
  ops::MatmulOptions options;
  DType weights = DType::f32;
};

std::vector<Variant> variants() {
  std::vector<Variant> all;
  for (const auto a : {Transpose::no, Transpose::yes}) {
    for (const auto b : {Transpose::no, Transpose::yes}) {
      for (const auto accumulate : {Accumulate::no, Accumulate::yes}) {
        for (const auto weights : {DType::f32, DType::bf16}) {
          all.push_back({{.a = a, .b = b, .accumulate = accumulate}, weights});
        }
      }
    }
  }
  return all;
}

Shape stored(std::int64_t rows, std::int64_t columns, Transpose transpose) {
  return transpose == Transpose::yes ? Shape{columns, rows} : Shape{rows, columns};
}

void run(Trial& t, const test::MatmulCase& c, const Variant& variant) {
  const auto& o = variant.options;
  const Tensor a = t.tensors.normal("a", t.dtype, stored(c.m, c.k, o.a));
  const Tensor b = t.tensors.normal("b", t.weight_dtype(variant.weights), stored(c.k, c.n, o.b),
                                    {.rounded_to = variant.weights});
  const Tensor y = o.accumulate == Accumulate::yes ? t.tensors.normal("c", t.dtype, {c.m, c.n})
                                                   : t.tensors.make(t.dtype, {c.m, c.n});
  ops::matmul(t.ctx, y, a, b, o);
  t.result("c", y, c.k);
}

TEST(Matmul, BackendsAgree) {
  for (const auto& c : test::matmul_cases()) {
    for (const auto& v : variants()) {
      const auto name = fmt::format("m {} n {} k {}, transpose {} {}, accumulate {}, {}", c.m, c.n, c.k,
                                    v.options.a == Transpose::yes, v.options.b == Transpose::yes,
                                    v.options.accumulate == Accumulate::yes, name_of(v.weights));
      test::expect_backends_agree(name, [&](Trial& t) { run(t, c, v); });
    }
  }
}

// Sizes at which a backend may take another path than for small ones; sides that no tile divides, K in
// several blocks.
TEST(Matmul, LargeProducts) {
  for (const test::MatmulCase& c :
       {test::MatmulCase{.m = 167, .n = 201, .k = 149}, {.m = 70, .n = 66, .k = 1100}}) {
    for (const auto& v : variants()) {
      if (v.weights == DType::bf16) continue;
      const auto name = fmt::format("m {} n {} k {}, transpose {} {}, accumulate {}", c.m, c.n, c.k,
                                    v.options.a == Transpose::yes, v.options.b == Transpose::yes,
                                    v.options.accumulate == Accumulate::yes);
      test::expect_backends_agree(name, [&](Trial& t) { run(t, c, v); });
    }
  }
}

TEST(Matmul, EmptyInnerSizeGivesZeros) {
  for (const auto accumulate : {Accumulate::no, Accumulate::yes}) {
    test::expect_backends_agree("m 3 n 4 k 0", [&](Trial& t) {
      run(t, {3, 4, 0}, {{.accumulate = accumulate}});
    });
  }
}

TEST(Matmul, KnownProduct) {
  auto context = test::reference_context();
  test::TestTensors tensors(1);
  const Tensor a = tensors.of(DType::f64, {2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor b = tensors.of(DType::f64, {3, 2}, {7, 8, 9, 10, 11, 12});
  const Tensor c = tensors.make(DType::f64, {2, 2});
  ops::matmul(*context, c, a, b, {});
  test::expect_same(c, tensors.of(DType::f64, {2, 2}, {58, 64, 139, 154}), "c");
}

// dA = dC · Bᵀ and dB = Aᵀ · dC, as the layers use them.
TEST(Matmul, ProductsOfBackwardAreGradients) {
  auto context = test::reference_context();
  test::TestTensors tensors(2);
  const Tensor a = tensors.normal("a", DType::f64, {3, 4}), b = tensors.normal("b", DType::f64, {4, 2});
  const Tensor c = tensors.make(DType::f64, {3, 2}), dc = tensors.normal("dc", DType::f64, {3, 2});
  const Tensor da = tensors.make(DType::f64, a.shape), db = tensors.make(DType::f64, b.shape);
  ops::matmul(*context, da, dc, b, {.b = Transpose::yes});
  ops::matmul(*context, db, a, dc, {.a = Transpose::yes});
  const auto loss = [&] {
    ops::matmul(*context, c, a, b, {});
    return test::inner_product(c, dc);
  };
  test::expect_gradient(a, da, loss, "da");
  test::expect_gradient(b, db, loss, "db");
}

// A row in a batch is that row alone, bit for bit, in strict arithmetic.
TEST(Matmul, StrictRowsDoNotDependOnOtherRows) {
  auto context = test::cpu_context(2, Arithmetic::strict);
  for (const auto weights : {DType::f32, DType::bf16}) {
    for (const auto transpose : {Transpose::no, Transpose::yes}) {
      test::TestTensors tensors(3);
      const Tensor a = tensors.normal("a", DType::f32, {70, 96});
      const Tensor b = tensors.normal("b", weights, stored(96, 130, transpose), {.rounded_to = weights});
      const Tensor all = tensors.make(DType::f32, {70, 130});
      ops::matmul(*context, all, a, b, {.b = transpose});
      for (const std::int64_t rows : {1, 2, 7, 33}) {
        const Tensor some = tensors.make(DType::f32, {rows, 130});
        ops::matmul(*context, some, rows_of(a, 5, rows), b, {.b = transpose});
        test::expect_same(some, rows_of(all, 5, rows), fmt::format("{} rows, {}", rows, name_of(weights)));
      }
    }
  }
}

TEST(Matmul, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const auto make = [&](DType dtype, const Shape& shape) { return t.zeros(dtype, shape); };
  const Tensor a = make(DType::f32, {2, 3}), b = make(DType::f32, {3, 4}), c = make(DType::f32, {2, 4});
  test::expect_op_error(
      [&] {
        ops::matmul(*context, c, a, make(DType::f32, {4, 4}), {});
      },
      "matmul", "inner");
  test::expect_op_error([&] { ops::matmul(*context, make(DType::f32, {2, 5}), a, b, {}); }, "matmul", "c is");
  test::expect_op_error([&] { ops::matmul(*context, make(DType::f64, {2, 4}), a, b, {}); }, "matmul", "c is");
  test::expect_op_error([&] { ops::matmul(*context, c, a, make(DType::f64, {3, 4}), {}); }, "matmul", "b is");
  test::expect_op_error([&] { ops::matmul(*context, c, make(DType::f32, {6}), b, {}); }, "matmul", "a is");
}

}  // namespace
}  // namespace braid
