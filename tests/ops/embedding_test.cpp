#include "braid/ops/embedding.h"

#include "tests/support/cases.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_errors.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using test::Trial;

constexpr std::int64_t kVocabulary = 11;

// Weights of the activations' dtype, or bf16 ones beside f32 activations.
Tensor make_table(Trial& t, DType weights, std::int64_t width) {
  const Shape shape{kVocabulary, width};
  if (weights == DType::bf16) {
    return t.tensors.normal("table", t.weight_dtype(weights), shape, {.rounded_to = weights});
  }
  return t.tensors.normal("table", t.dtype, shape);
}

TEST(Embedding, BackendsAgree) {
  for (const auto& c : test::rows_cases()) {
    for (const auto weights : {DType::f32, DType::bf16}) {
      const auto name = fmt::format("rows {} width {}, {}", c.rows, c.width, name_of(weights));
      test::expect_backends_agree(name, [&](Trial& t) {
        const Tensor ids = t.tensors.integers("ids", {c.rows}, 0, kVocabulary);
        const Tensor table = make_table(t, weights, c.width);
        const Tensor y = t.tensors.make(t.dtype, {c.rows, c.width});
        ops::embedding_forward(t.ctx, y, ids, table);
        t.result("y", y, test::Tolerance{0, 0});
        const Tensor dy = t.tensors.normal("dy", t.dtype, y.shape);
        const Tensor dtable = t.tensors.normal("dtable", t.accumulator(), {kVocabulary, c.width});
        ops::embedding_backward(t.ctx, dtable, dy, ids);
        t.result("dtable", dtable, c.rows);
      });
    }
  }
}

// Runs of one id from shorter than a block's share of the tokens to many of them; few ids, or hardly any
// twice; tables that fit in a multiprocessor, and larger ones.
TEST(Embedding, BackwardOfLongRuns) {
  for (const std::int64_t tokens : {31, 32, 33, 64, 65, 500, 2000}) {
    for (const auto& [ids_from, rows] :
         {std::pair{1, 1}, {2, 2}, {7, 7}, {7, 300}, {200, 200}, {3000, 3000}}) {
      for (const std::int64_t width : {5, 24, 258}) {
        if (width > 100 && (rows > 200 || tokens > 500)) continue;
        const auto name = fmt::format("tokens {} ids {} of {} width {}", tokens, ids_from, rows, width);
        test::expect_backends_agree(name, [&](Trial& t) {
          const Tensor ids = t.tensors.integers("ids", {tokens}, 0, ids_from);
          const Tensor dy = t.tensors.normal("dy", t.dtype, {tokens, width});
          const Tensor dtable = t.tensors.normal("dtable", t.accumulator(), {rows, width});
          ops::embedding_backward(t.ctx, dtable, dy, ids);
          t.result("dtable", dtable, tokens);
        });
      }
    }
  }
}

TEST(Embedding, GradientIsThatOfDifferences) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensor ids = t.of({2, 0, 2, 3, 2});
  const Tensor table = t.normal("table", DType::f64, {5, 3}), dy = t.normal("dy", DType::f64, {5, 3});
  const Tensor y = t.make(DType::f64, {5, 3}), dtable = t.zeros(DType::f64, table.shape);
  ops::embedding_backward(*context, dtable, dy, ids);
  test::expect_gradient(
      table, dtable,
      [&] {
        ops::embedding_forward(*context, y, ids, table);
        return test::inner_product(y, dy);
      },
      "dtable");
}

TEST(Embedding, BackwardAddsToTheTable) {
  auto context = test::cpu_context(2);
  test::TestTensors t(1);
  const Tensor ids = t.of({1, 1, 0}), dy = t.of(DType::f32, {3, 2}, {1, 2, 3, 4, 5, 6});
  const Tensor dtable = t.of(DType::f32, {3, 2}, {10, 20, 30, 40, 50, 60});
  ops::embedding_backward(*context, dtable, dy, ids);
  test::expect_same(dtable, t.of(DType::f32, {3, 2}, {15, 26, 34, 46, 50, 60}), "dtable");
}

TEST(Embedding, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensor ids = t.of({0, 1}), table = t.zeros(DType::f32, {4, 3}), y = t.zeros(DType::f32, {2, 3});
  using test::expect_op_error;
  const auto forward = [&](Tensor out, ConstTensor i, ConstTensor from) {
    return [=, &context] { ops::embedding_forward(*context, out, i, from); };
  };
  expect_op_error(forward(y, t.zeros(DType::i64, {2}), table), "embedding_forward", "ids is");
  expect_op_error(forward(y, t.of({0, 1, 2}), table), "embedding_forward", "ids is");
  expect_op_error(forward(y, ids, t.zeros(DType::f32, {4, 2})), "embedding_forward", "y is");
  expect_op_error(forward(y, ids, t.zeros(DType::f64, {4, 3})), "embedding_forward", "table is");
  expect_op_error(forward(y, t.of({0, 4}), table), "embedding_forward", "ids[1] is 4");
  expect_op_error(
      [&] {
        ops::embedding_backward(*context, table, t.zeros(DType::f32, {2, 4}), ids);
      },
      "embedding_backward", "dy is");
}

}  // namespace
}  // namespace braid
