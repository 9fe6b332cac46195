#include "braid/ops/matmul.h"

#include <utility>
#include <vector>

#include "braid/backends/cpu/matmul.h"
#include "braid/ops/swiglu.h"
#include "tests/support/cases.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_errors.h"
#include "tests/support/repeats.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using ops::Accumulate;
using ops::Transpose;
using test::Trial;

enum class WeightType { as_activations, bf16 };
enum class Output { as_activations, accumulator };
enum class Adds { nothing, own_values, addend };

struct Variant {
  ops::MatmulOptions options;  // without the addend
  Adds adds = Adds::nothing;
  WeightType weights = WeightType::as_activations;
  Output output = Output::as_activations;
};

// f32 activations on bf16 weights are for the cpu; cuda has bf16 activations, whose products may be f32.
std::vector<std::pair<WeightType, Output>> dtype_variants() {
  if (test::testing_cuda()) {
    return {{WeightType::as_activations, Output::as_activations},
            {WeightType::as_activations, Output::accumulator}};
  }
  return {{WeightType::as_activations, Output::as_activations}, {WeightType::bf16, Output::as_activations}};
}

std::vector<Variant> variants() {
  std::vector<Variant> all;
  for (const auto a : {Transpose::no, Transpose::yes}) {
    for (const auto b : {Transpose::no, Transpose::yes}) {
      for (const auto adds : {Adds::nothing, Adds::own_values, Adds::addend}) {
        const auto accumulate = adds == Adds::own_values ? Accumulate::yes : Accumulate::no;
        for (const auto& [weights, output] : dtype_variants()) {
          all.push_back({{.a = a, .b = b, .accumulate = accumulate}, adds, weights, output});
        }
      }
    }
  }
  return all;
}

std::string to_string(const test::MatmulCase& c, const Variant& v) {
  return fmt::format("m {} n {} k {}, transpose {} {}, adds {}{}{}", c.m, c.n, c.k,
                     v.options.a == Transpose::yes, v.options.b == Transpose::yes, static_cast<int>(v.adds),
                     v.weights == WeightType::bf16 ? ", bf16 weights" : "",
                     v.output == Output::accumulator ? ", f32 output" : "");
}

Shape stored(std::int64_t rows, std::int64_t columns, Transpose transpose) {
  return transpose == Transpose::yes ? Shape{columns, rows} : Shape{rows, columns};
}

// Whether the CPU's fast arithmetic leaves it to the library, which may cut sums by the number of threads
// where they are long: of 1032 terms it does, of 520 not.
bool library_may_cut(const test::MatmulCase& c, const ops::MatmulOptions& options, DType weight) {
  return c.k > 1000 && cpu::choose_matmul({.rows = c.m,
                                           .columns = c.n,
                                           .inner = c.k,
                                           .options = options,
                                           .weight = weight,
                                           .arithmetic = Arithmetic::fast,
                                           .amx = false}) == cpu::MatmulPath::library;
}

// Multiplies rows [skip, …) of larger tensors.
void run(Trial& t, const test::MatmulCase& c, const Variant& variant, std::int64_t skip = 0) {
  ops::MatmulOptions o = variant.options;
  const auto rows_from = [&](const Tensor& all) { return rows_of(all, skip, all.shape[0] - skip); };
  const auto more = [&](Shape shape) {
    shape.dims[0] += skip;
    return shape;
  };
  const bool bf16 = variant.weights == WeightType::bf16;
  const DType out = variant.output == Output::accumulator ? t.accumulator() : t.dtype;
  const Tensor a = rows_from(t.tensors.normal("a", t.dtype, more(stored(c.m, c.k, o.a))));
  const Tensor b = bf16
                       ? rows_from(t.tensors.normal("b", t.weight_dtype(DType::bf16),
                                                    more(stored(c.k, c.n, o.b)), {.rounded_to = DType::bf16}))
                       : rows_from(t.tensors.normal("b", t.dtype, more(stored(c.k, c.n, o.b))));
  const Tensor y = rows_from(o.accumulate == Accumulate::yes ? t.tensors.normal("c", out, more({c.m, c.n}))
                                                             : t.tensors.make(out, more({c.m, c.n})));
  if (variant.adds == Adds::addend) o.addend = rows_from(t.tensors.normal("addend", out, more({c.m, c.n})));
  ops::matmul(t.ctx, y, a, b, o);
  t.result("c", y, c.k);
  if (library_may_cut(c, o, b.dtype)) t.fast_bits_depend_on_threads = true;
}

TEST(Matmul, BackendsAgree) {
  for (const auto& c : test::matmul_cases()) {
    for (const auto& v : variants()) {
      test::expect_backends_agree(to_string(c, v), [&](Trial& t) { run(t, c, v); });
    }
  }
}

// Sizes at which a backend may take another path than for small ones; sides that no tile divides, K in
// several blocks, few rows.
TEST(Matmul, LargeProducts) {
  for (const test::MatmulCase& c : {test::MatmulCase{.m = 167, .n = 201, .k = 149},
                                    {.m = 70, .n = 66, .k = 1100},
                                    {.m = 2, .n = 70, .k = 2056},
                                    {.m = 3, .n = 41, .k = 1160},
                                    {.m = 8, .n = 37, .k = 1032},
                                    {.m = 9, .n = 70, .k = 2056},
                                    {.m = 16, .n = 130, .k = 520},
                                    {.m = 29, .n = 41, .k = 1160}}) {
    for (const auto& v : variants()) {
      if (v.weights == WeightType::bf16) continue;
      test::expect_backends_agree(to_string(c, v), [&](Trial& t) { run(t, c, v); });
    }
  }
}

// Views whose first element is on no particular boundary.
TEST(Matmul, RowsOfLargerTensors) {
  for (const test::MatmulCase& c : {test::MatmulCase{.m = 5, .n = 7, .k = 33}, {.m = 20, .n = 24, .k = 40}}) {
    for (const auto& v : variants()) {
      test::expect_backends_agree(to_string(c, v), [&](Trial& t) { run(t, c, v, 1); });
    }
  }
}

// So many columns that a kernel which shares them out takes several turns.
TEST(Matmul, CudaFewRowsOnManyColumns) {
  if (!test::testing_cuda()) GTEST_SKIP() << "BRAID_TEST_BACKEND is not cuda";
  for (const std::int64_t rows : {1, 8, 13, 32}) {
    for (const auto output : {Output::as_activations, Output::accumulator}) {
      const test::MatmulCase c{.m = rows, .n = 40001, .k = 40};
      const Variant v{.options = {.b = Transpose::yes}, .adds = Adds::addend, .output = output};
      test::expect_backends_agree(to_string(c, v), [&](Trial& t) { run(t, c, v); });
    }
  }
}

// Sizes for which one, two or four of an H200's multiprocessors share columns, and so long that every place
// of the ring is filled more than once; the last has several tiles to a block.
constexpr std::pair<std::int64_t, std::int64_t> kLongRings[] = {
    {2105, 3496}, {1037, 6968}, {1313, 6968}, {59108, 232}};

TEST(Matmul, CudaFewRowsOnFewColumns) {
  if (!test::testing_cuda()) GTEST_SKIP() << "BRAID_TEST_BACKEND is not cuda";
  const auto expect_agreement = [](std::int64_t rows, std::int64_t n, std::int64_t k) {
    const test::MatmulCase c{.m = rows, .n = n, .k = k};
    const Variant v{.options = {.b = Transpose::yes}, .adds = Adds::addend};
    test::expect_backends_agree(to_string(c, v), [&](Trial& t) { run(t, c, v); });
  };
  for (const auto& [n, k] : {std::pair{1, 8000}, {250, 4104}, {960, 2760}, {3000, 712}}) {
    for (const std::int64_t rows : {9, 16, 31}) expect_agreement(rows, n, k);
  }
  // Several groups of columns to a warp and to a block that finishes them (few_rows_cut_test has the cuts).
  for (const auto& [n, k] : {std::pair{2113, 2056}, {4321, 2760}, {8449, 520}}) {
    for (const std::int64_t rows : {16, 31}) expect_agreement(rows, n, k);
  }
  expect_agreement(31, 8449, 2760);
  // Large inputs take long to make: each once, with rows for one or for two of the tensor cores' tiles.
  std::int64_t rows = 16;
  for (const auto& [n, k] : kLongRings) {
    expect_agreement(rows, n, k);
    rows = 47 - rows;
  }
}

TEST(Matmul, EmptyInnerSizeGivesZeros) {
  for (const auto adds : {Adds::nothing, Adds::own_values, Adds::addend}) {
    const auto accumulate = adds == Adds::own_values ? Accumulate::yes : Accumulate::no;
    test::expect_backends_agree("m 3 n 4 k 0", [&](Trial& t) {
      run(t, {3, 4, 0}, {{.accumulate = accumulate}, adds});
    });
  }
}

// Several products of one input, of unequal widths; one of them may be in the accumulator's dtype.
TEST(LinearGroup, BackendsAgree) {
  for (const std::int64_t rows : {1, 2, 5, 8, 9, 16, 23, 40}) {
    for (const std::int64_t inner : {40, 33, 520, 2056}) {
      test::expect_backends_agree(fmt::format("{} rows, inner {}", rows, inner), [&](Trial& t) {
        const Tensor x = t.tensors.normal("x", t.dtype, {rows, inner});
        std::vector<ops::LinearPart> parts;
        for (const std::int64_t width : {70, 3, 129}) {
          const DType out = width == 3 ? t.accumulator() : t.dtype;
          parts.push_back({t.tensors.make(out, {rows, width}),
                           t.tensors.normal(fmt::format("weight {}", width), t.dtype, {width, inner})});
        }
        ops::linear_group(t.ctx, parts, x);
        for (const auto& part : parts) {
          t.result(to_string(part.weight.shape), part.y, inner);
          const test::MatmulCase c{.m = rows, .n = part.weight.shape[0], .k = inner};
          if (library_may_cut(c, {.b = Transpose::yes}, t.dtype)) t.fast_bits_depend_on_threads = true;
        }
      });
    }
  }
}

// Many narrow rows, whose weights stay in shared memory: parts of several blocks, of one that is not full,
// and one that is too narrow for it; rows too few, just enough, and not a multiple of the tiles.
TEST(LinearGroup, NarrowRowsBackendsAgree) {
  for (const auto& [rows, inner] :
       {std::pair{1023, 64}, {1024, 64}, {1100, 256}, {1537, 200}, {5000, 72}, {1030, 264}, {1030, 33}}) {
    test::expect_backends_agree(fmt::format("{} rows, inner {}", rows, inner), [&](Trial& t) {
      const Tensor x = t.tensors.normal("x", t.dtype, {rows, inner});
      std::vector<ops::LinearPart> parts;
      for (const std::int64_t width : {520, 8, 128, 136}) {
        const DType out = width == 8 ? t.accumulator() : t.dtype;
        parts.push_back({t.tensors.make(out, {rows, width}),
                         t.tensors.normal(fmt::format("weight {}", width), t.dtype, {width, inner})});
      }
      ops::linear_group(t.ctx, parts, x);
      for (const auto& part : parts) t.result(to_string(part.weight.shape), part.y, inner);
    });
  }
}

TEST(LinearGroup, CudaRepeatsItsBits) {
  if (!test::testing_cuda()) GTEST_SKIP() << "BRAID_TEST_BACKEND is not cuda";
  test::TestContext& context = test::cuda_context();
  Context ctx = *context;
  test::TestTensors tensors(7, DType::bf16, test::Contents::real, context.backend().memory);
  const Tensor x = tensors.normal("x", DType::bf16, {17'664, 256});
  const Tensor weights[] = {tensors.normal("narrow", DType::bf16, {256, 256}, {.scale = 0.06}),
                            tensors.normal("wide", DType::bf16, {512, 256}, {.scale = 0.06})};
  test::expect_same_again([&] {
    std::vector<ops::LinearPart> parts;
    for (const Tensor& w : weights) parts.push_back({tensors.make(DType::bf16, {17'664, w.shape[0]}), w});
    ops::linear_group(ctx, parts, x);
    std::vector<ConstTensor> results;
    for (const auto& part : parts) results.push_back(tensors.on_host(part.y));
    return results;
  });
}

void run_narrow(std::int64_t rows, std::int64_t columns, std::int64_t inner) {
  for (const Transpose transposed : {Transpose::no, Transpose::yes}) {
    const bool yes = transposed == Transpose::yes;
    const auto name = fmt::format("{} rows, {} columns, inner {}, transposed {}", rows, columns, inner, yes);
    test::expect_backends_agree(name, [&](Trial& t) {
      const Tensor a = t.tensors.normal("a", t.dtype, {rows, inner});
      const Tensor b = t.tensors.normal("b", t.dtype, yes ? Shape{columns, inner} : Shape{inner, columns});
      const Tensor c = t.tensors.make(t.dtype, {rows, columns});
      ops::matmul(t.ctx, c, a, b, {.b = transposed});
      t.result("c", c, inner);
    });
  }
}

// One product, its weight as stored and transposed.
TEST(Matmul, NarrowRowsBackendsAgree) {
  run_narrow(1024, 128, 64);
  run_narrow(1100, 512, 256);
  run_narrow(1301, 264, 136);
  run_narrow(3000, 1000, 8);
}

// So wide that a block has 8 or 9 tiles of rows, and its ring turns.
TEST(Matmul, CudaNarrowRowsInManyTiles) {
  if (!test::testing_cuda()) GTEST_SKIP() << "BRAID_TEST_BACKEND is not cuda";
  run_narrow(1100, 16896, 40);
}

TEST(LinearGroup, IsItsProducts) {
  auto context = test::reference_context();
  test::TestTensors t(5);
  const Tensor x = t.normal("x", DType::f64, {3, 7});
  const Tensor first = t.normal("first", DType::f64, {4, 7}), second = t.normal("second", DType::f64, {2, 7});
  const Tensor y = t.make(DType::f64, {3, 4}), z = t.make(DType::f64, {3, 2});
  const ops::LinearPart parts[] = {{y, first}, {z, second}};
  ops::linear_group(*context, parts, x);
  for (const auto& [got, weight] : parts) {
    const Tensor want = t.make(DType::f64, got.shape);
    ops::matmul(*context, want, x, weight, {.b = Transpose::yes});
    test::expect_same(got, want, to_string(weight.shape));
  }
}

TEST(LinearGroup, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensor x = t.zeros(DType::f32, {2, 3}), weight = t.zeros(DType::f32, {4, 3});
  const auto fails = [&](const Tensor& y, const Tensor& w, const char* why) {
    const ops::LinearPart part[] = {{y, w}};
    test::expect_op_error([&] { ops::linear_group(*context, part, x); }, "linear_group", why);
  };
  fails(t.zeros(DType::f32, {2, 4}), t.zeros(DType::f32, {4, 5}), "inner");
  fails(t.zeros(DType::f32, {2, 5}), weight, "y is");
  fails(t.zeros(DType::f64, {2, 4}), weight, "y is");
  test::expect_op_error([&] { ops::linear_group(*context, {}, x); }, "linear_group", "parts");
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

// The same on cuda in bf16; there the few rows of a decoding step keep their bits in fast arithmetic too, up
// to 8 of them and from 9 to 32.
TEST(Matmul, CudaRowsDoNotDependOnOtherRows) {
  if (!test::testing_cuda()) GTEST_SKIP() << "BRAID_TEST_BACKEND is not cuda";
  test::TestContext& context = test::cuda_context();
  struct Case {
    Arithmetic arithmetic;
    std::int64_t most;
    std::vector<std::int64_t> rows;
  };
  const auto expect_same_rows = [&](const Case& c, std::int64_t n, std::int64_t k, bool gated) {
    Context ctx = *context;
    ctx.arithmetic = c.arithmetic;
    test::TestTensors tensors(4, DType::bf16, test::Contents::real, context.backend().memory);
    const Tensor a = tensors.normal("a", DType::bf16, {c.most, k});
    const Tensor b = tensors.normal("b", DType::bf16, {gated ? 2 * n : n, k});
    const auto run = [&](const ConstTensor& x) {
      const Tensor y = tensors.make(gated ? DType::bf16 : DType::f32, {x.shape[0], n});
      gated ? ops::swiglu_linear(ctx, y, Tensor{}, x, b) : ops::matmul(ctx, y, x, b, {.b = Transpose::yes});
      return tensors.on_host(y);
    };
    const auto all = run(a);
    for (const std::int64_t rows : c.rows) {
      test::expect_same(
          run(rows_of(a, 2, rows)), rows_of(all, 2, rows),
          fmt::format("{} rows of {}, {} columns, inner {}, {}, {}", rows, c.most, n, k,
                      gated ? "gated" : "plain", c.arithmetic == Arithmetic::fast ? "fast" : "strict"));
    }
  };
  const Case few{Arithmetic::fast, 32, {9, 16, 17, 30}};
  for (const auto& c :
       {Case{Arithmetic::fast, 8, {1, 2, 3, 5, 6}}, few, Case{Arithmetic::strict, 70, {1, 2, 3, 5, 6}}}) {
    expect_same_rows(c, 130, 1032, false);
  }
  for (const auto& [n, k] : kLongRings) expect_same_rows(few, n, k, false);
  for (const auto& [n, k] : {std::pair{1037, 3496}, {510, 6968}, {574, 6968}}) {
    expect_same_rows(few, n, k, true);
  }
}

// Weights that are fetched before their turn are the same weights.
TEST(Matmul, CudaConstantWeightsChangeNoBits) {
  if (!test::testing_cuda()) GTEST_SKIP() << "BRAID_TEST_BACKEND is not cuda";
  test::TestContext& context = test::cuda_context();
  Context ctx = *context;
  test::TestTensors tensors(5, DType::bf16, test::Contents::real, context.backend().memory);
  for (const std::int64_t columns : {60, 3000}) {
    const auto name = [&](const char* what) { return fmt::format("{} of {}", what, columns); };
    const Tensor x = tensors.normal(name("x"), DType::bf16, {16, 2056});
    const Tensor weight = tensors.normal(name("weight"), DType::bf16, {columns, 2056});
    const Tensor first = tensors.make(DType::f32, {16, columns});
    ops::matmul(ctx, first, x, weight, {.b = Transpose::yes});
    ctx.fetch = Fetch::ahead;
    for (int repeat = 0; repeat < 20; ++repeat) {
      const Tensor again = tensors.make(DType::f32, {16, columns});
      ops::matmul(ctx, again, x, weight, {.b = Transpose::yes});
      test::expect_same(tensors.on_host(again), tensors.on_host(first), name("columns"));
    }
    ctx.fetch = Fetch::in_turn;
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
  test::expect_op_error([&] { ops::matmul(*context, c, a, b, {.addend = b}); }, "matmul", "addend is");
  test::expect_op_error([&] { ops::matmul(*context, c, a, b, {.accumulate = Accumulate::yes, .addend = c}); },
                        "matmul", "exclude");
}

}  // namespace
}  // namespace braid
