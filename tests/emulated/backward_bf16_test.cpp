// The kernels of attention's backward pass on the tensor cores, against the op's reference in f64.
#include "braid/backends/cuda/attention/backward_bf16.cuh"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>

#include "tests/support/cases.h"
#include "tests/support/trial.h"

namespace braid::cuda::flash {
namespace {

using test::AttentionCase;

// Inputs in bf16, and what the reference makes of them. Keys are `scale` times as large.
struct Problems {
  test::TestTensors t;
  test::TestContext reference = test::reference_context();
  ops::AttentionOptions options;
  ops::Segments segments;
  ops::AttentionInputs in;
  Tensor dy, y, log_sum_exp, row_dot;
  ops::AttentionGradients got, want;

  Problems(const AttentionCase& c, std::uint64_t seed, double scale) : t(seed, DType::bf16) {
    const auto tokens = test::sum_of(c.lengths);
    const Shape q{tokens, c.heads, c.width}, k{tokens, c.kv_heads, c.width};
    options.window = c.window;
    segments = t.segments(c.lengths);
    in = {t.normal("q", DType::bf16, q), t.normal("k", DType::bf16, k, {.scale = scale}),
          t.normal("v", DType::bf16, k)};
    dy = t.normal("dy", DType::bf16, q);
    row_dot = t.make(DType::f32, {tokens, c.heads});
    got = {t.make(DType::bf16, q), t.make(DType::bf16, k), t.make(DType::bf16, k)};
    want = {t.make(DType::f64, q), t.make(DType::f64, k), t.make(DType::f64, k)};
    const auto precise = [&](const ConstTensor& x) { return t.copy_of(x, DType::f64); };
    const ops::AttentionInputs exact{precise(in.q), precise(in.k), precise(in.v)};
    const Tensor exact_y = t.make(DType::f64, q), exact_sums = t.make(DType::f64, row_dot.shape);
    ops::attention_forward(*reference, exact_y, exact_sums, exact, segments, options);
    ops::attention_backward(*reference, want, precise(dy), exact, {exact_y, exact_sums}, segments, options);
    y = t.copy_of(exact_y, DType::bf16);
    log_sum_exp = t.copy_of(exact_sums, DType::f32);
  }

  template <int kWidth>
  void run() const {
    const BackwardArguments a = backward_arguments(got, dy, in, {y, log_sum_exp}, row_dot);
    const Problem p = make_problem("attention", in, segments, options);
    const auto launch = [&](std::int64_t heads, auto&& kernel) {
      test::emulation::Launch l{
          .blocks = std::vector<unsigned>(static_cast<std::size_t>(most_tiles(p, kBackwardRows) * heads)),
          .threads = kBackwardThreads,
          .seed = t.seed()};
      std::iota(l.blocks.begin(), l.blocks.end(), 0U);
      std::mt19937_64 random(t.seed());
      std::ranges::shuffle(l.blocks, random);
      test::emulation::run(l, kernel);
    };
    launch(p.heads, [&] { backward_query_kernel<kWidth>(a, p); });
    launch(p.kv_heads, [&] { backward_key_kernel<kWidth>(a, p); });
  }
};

bool all_zero(const ConstTensor& x) {
  const bf16* const values = pointer<bf16>(x);
  return std::all_of(values, values + x.count(), [](bf16 value) { return __bfloat162float(value) == 0; });
}

// Rounded to bf16 are the results, and before them y and the gradients of scores, whose sums may nearly
// cancel.
template <int kWidth>
void run(const AttentionCase& c, std::uint64_t seed, double scale = 1, test::Tolerance limit = {4e-3, 0.08}) {
  SCOPED_TRACE(fmt::format("{}, seed {}, keys of {}", to_string(c), seed, scale));
  const Problems all(c, seed, scale);
  all.run<kWidth>();
  test::expect_close(all.got.q, all.want.q, limit, "dq");
  test::expect_close(all.got.k, all.want.k, limit, "dk");
  test::expect_close(all.got.v, all.want.v, limit, "dv");
  std::int64_t begin = 0;
  for (const auto length : c.lengths) {
    const std::int64_t alone = c.window == 1 ? length : std::min<std::int64_t>(length, 1);
    EXPECT_TRUE(all_zero(rows_of(all.got.q, begin, alone))) << "rows that see only themselves";
    begin += length;
  }
}

TEST(EmulatedBackwardBf16, IsTheGradientOfAttention) {
  run<64>({2, 2, 64, 0, {0, 1, 15, 64, 65, 130}}, 1);
  // Query heads in groups; widths that fill no kernel; windows that end inside tiles and at their borders.
  run<64>({4, 2, 40, 0, {130, 0, 1, 17}}, 2);
  run<64>({3, 1, 64, 40, {1, 64, 150}}, 3);
  run<64>({2, 1, 64, 64, {130, 2, 193}}, 4);
  run<64>({2, 2, 8, 1000, {65, 129}}, 5);
  run<128>({2, 1, 128, 0, {15, 1, 130}}, 6);
  run<128>({1, 1, 72, 30, {65, 64}}, 7);
  // Scores of hundreds, nearly one-hot: dy · v and dy · y nearly cancel, and y is rounded to bf16.
  run<64>({2, 1, 64, 0, {1, 65, 40}}, 8, 40, {1.5e-2, 0.3});
}

TEST(EmulatedBackwardBf16, RowsThatSeeOnlyThemselves) {
  for (const std::int64_t width : {8, 64}) {
    const Problems all({2, 1, width, 1, {1, 1, 70}}, 1, 1);
    all.run<64>();
    EXPECT_TRUE(all_zero(all.got.q)) << width;
    EXPECT_TRUE(all_zero(all.got.k)) << width;
    test::expect_close(all.got.v, all.want.v, {3e-3, 2e-2}, "dv");
  }
}

TEST(EmulatedBackwardBf16, NanStaysInItsSegment) {
  const AttentionCase c{2, 1, 64, 0, {17, 5, 70}};
  const Problems clean(c, 1, 1), dirty(c, 1, 1);
  for (const ConstTensor& x : {dirty.in.q, dirty.in.k, dirty.in.v, ConstTensor{dirty.dy},
                               ConstTensor{dirty.y}, ConstTensor{dirty.log_sum_exp}}) {
    const Tensor middle{rows_of(x, 17, 5)};
    for (std::int64_t i = 0; i < middle.count(); ++i) {
      test::set_element(middle, i, std::numeric_limits<double>::quiet_NaN());
    }
  }
  clean.run<64>();
  dirty.run<64>();
  for (const auto& [begin, rows] : {std::pair{0, 17}, std::pair{22, 70}}) {
    for (const auto& [got, want] :
         {std::pair{dirty.got.q, clean.got.q}, {dirty.got.k, clean.got.k}, {dirty.got.v, clean.got.v}}) {
      test::expect_same(rows_of(got, begin, rows), rows_of(want, begin, rows), "beside NaN");
    }
  }
}

void expect_random_cases(std::uint64_t first, std::uint64_t last) {
  for (std::uint64_t seed = first; seed < last; ++seed) {
    std::mt19937_64 random(seed);
    const auto draw = [&](int low, int high) { return std::uniform_int_distribution(low, high)(random); };
    AttentionCase c{};
    c.kv_heads = draw(1, 2);
    c.heads = c.kv_heads * draw(1, 3);
    c.width = 8 * draw(1, 16);
    c.window = draw(0, 1) == 0 ? 0 : draw(1, 150);
    for (int s = draw(1, 4); s > 0; --s) c.lengths.push_back(draw(0, 2) == 0 ? draw(0, 5) : draw(1, 200));
    c.lengths.push_back(draw(1, 70));
    c.width <= 64 ? run<64>(c, seed) : run<128>(c, seed);
  }
}

TEST(EmulatedBackwardBf16, RandomCases) { expect_random_cases(100, 102); }
TEST(EmulatedBackwardBf16, FullRandomCases) { expect_random_cases(1000, 1030); }

}  // namespace
}  // namespace braid::cuda::flash
