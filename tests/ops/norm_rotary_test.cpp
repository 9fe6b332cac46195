#include "braid/ops/norm_rotary.h"

#include <array>

#include "braid/ops/rms_norm.h"
#include "tests/support/op_errors.h"
#include "tests/support/rotary_table.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using test::Trial;

struct Case {
  std::int64_t tokens, heads, kv_heads, width;
};

ops::NormRotaryPart make_part(test::TestTensors& tensors, const char* name, DType dtype, DType precise,
                              const Case& c, std::int64_t heads) {
  const auto all = heads * c.width;
  return {tensors.make(dtype, {c.tokens, heads, c.width}), tensors.make(precise, {c.tokens}),
          tensors.normal(name, dtype, {c.tokens, all}),
          tensors.normal(fmt::format("{} weight", name), precise, {all}, {.scale = 0.2, .offset = 1})};
}

// Widths that whole packets hold and others; rows of few and of many threads.
TEST(NormRotary, BackendsAgree) {
  for (const Case& c :
       {Case{0, 2, 1, 16}, Case{1, 1, 1, 2}, Case{7, 3, 1, 6}, Case{5, 4, 4, 64}, Case{33, 4, 2, 16},
        Case{3, 12, 4, 64}, Case{3, 30, 30, 128}, Case{2, 40, 8, 128}, Case{1, 60, 60, 256}}) {
    for (const bool rotates : {false, true}) {
      const auto name = fmt::format("{} tokens, {} and {} heads of {}, {}", c.tokens, c.heads, c.kv_heads,
                                    c.width, rotates ? "rotated" : "not rotated");
      test::expect_backends_agree(name, [&](Trial& t) {
        const auto table = test::make_rotary_table(t.ctx, t.tensors, t.accumulator(), c.width, 1.25);
        const Tensor positions = t.tensors.integers("positions", {c.tokens}, 0, test::kRotaryPositions);
        const ops::NormRotaryPart parts[] = {
            make_part(t.tensors, "q", t.dtype, t.accumulator(), c, c.heads),
            make_part(t.tensors, "k", t.dtype, t.accumulator(), c, c.kv_heads)};
        ops::norm_rotary_forward(t.ctx, parts, rotates ? std::optional(table) : std::nullopt, positions,
                                 1e-6);
        for (const auto& part : parts) {
          t.result("y", part.y, 2);
          t.result("inverse_rms", part.inverse_rms, part.x.shape[1]);
        }
      });
    }
  }
}

// Weights, positions and tables may come near before the kernel's turn.
TEST(NormRotary, CudaFetchingAheadChangesNoBits) {
  if (!test::testing_cuda()) GTEST_SKIP() << "BRAID_TEST_BACKEND is not cuda";
  Context ctx = *test::cuda_context();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Case& c : {Case{16, 30, 30, 128}, Case{7, 12, 4, 64}, Case{5, 3, 1, 64}}) {
      test::TestTensors t(7, dtype, test::Contents::real, test::cuda_context().backend().memory);
      const auto table = test::make_rotary_table(ctx, t, DType::f32, c.width, 1.25);
      const Tensor positions = t.integers("positions", {c.tokens}, 0, test::kRotaryPositions);
      const auto run = [&](Fetch fetch) {
        const ops::NormRotaryPart parts[] = {make_part(t, "q", dtype, DType::f32, c, c.heads),
                                             make_part(t, "k", dtype, DType::f32, c, c.kv_heads)};
        ctx.fetch = fetch;
        ops::norm_rotary_forward(ctx, parts, table, positions, 1e-6);
        return std::array{t.on_host(parts[0].y), t.on_host(parts[1].y), t.on_host(parts[0].inverse_rms)};
      };
      const auto in_turn = run(Fetch::in_turn), ahead = run(Fetch::ahead);
      for (std::size_t i = 0; i < in_turn.size(); ++i) {
        test::expect_same(ahead[i], in_turn[i],
                          fmt::format("{} heads of {}, result {}", c.heads, c.width, i));
      }
    }
  }
}

TEST(NormRotary, IsItsParts) {
  auto context = test::reference_context();
  test::TestTensors t(3);
  const auto table = test::make_rotary_table(*context, t, DType::f64, 4, 1.25);
  const Tensor positions = t.integers("positions", {5}, 0, test::kRotaryPositions);
  const auto part = make_part(t, "q", DType::f64, DType::f64, {5, 3, 3, 4}, 3);
  ops::norm_rotary_forward(*context, {&part, 1}, table, positions, 1e-6);
  const Tensor want = t.make(DType::f64, part.y.shape), inverse_rms = t.make(DType::f64, {5});
  ops::rms_norm_forward(*context, reshaped(want, part.x.shape), inverse_rms, part.x, part.weight,
                        {.epsilon = 1e-6});
  ops::rotary(*context, want, want, table, positions, ops::Rotation::forward);
  test::expect_same(part.y, want, "y");
  test::expect_same(part.inverse_rms, inverse_rms, "inverse_rms");
}

TEST(NormRotary, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const auto table = test::make_rotary_table(*context, t, DType::f32, 4);
  const Tensor positions = t.integers("positions", {5}, 0, test::kRotaryPositions);
  const auto good = make_part(t, "q", DType::f32, DType::f32, {5, 3, 3, 4}, 3);
  const auto refuses = [&](const ops::NormRotaryPart& part, const std::optional<ops::RotaryTable>& with,
                           const ConstTensor& at, const char* text) {
    test::expect_op_error(
        [&] {
          ops::norm_rotary_forward(*context, {&part, 1}, with, at, 1e-6);
        },
        "norm_rotary_forward", text);
  };
  auto bad = good;
  bad.x = t.zeros(DType::f32, {5, 11});
  refuses(bad, table, positions, "x is");
  bad = good;
  bad.weight = t.zeros(DType::f32, {11});
  refuses(bad, table, positions, "weight is");
  bad = good;
  bad.inverse_rms = t.zeros(DType::f64, {5});
  refuses(bad, table, positions, "inverse_rms is");
  refuses(good, test::make_rotary_table(*context, t, DType::f32, 8), positions, "table.cos is");
  refuses(good, table, t.integers("short", {4}, 0, test::kRotaryPositions), "positions is");
  test::expect_op_error([&] { ops::norm_rotary_forward(*context, {}, table, positions, 1e-6); },
                        "norm_rotary_forward", "0 parts");
}

}  // namespace
}  // namespace braid
