#include "braid/ops/attention.h"

#include <algorithm>
#include <limits>

#include "tests/support/cases.h"
#include "tests/support/gradient_check.h"
#include "tests/support/op_errors.h"
#include "tests/support/trial.h"

namespace braid {
namespace {

using test::AttentionCase;
using test::Trial;

struct Tensors {
  ops::AttentionInputs in;
  ops::AttentionOptions options;
  ops::Segments segments;
  Tensor y, log_sum_exp, dy;
  ops::AttentionGradients grads;
};

Tensors make_tensors(test::TestTensors& t, DType dtype, const AttentionCase& c) {
  const auto tokens = test::sum_of(c.lengths);
  const Shape q{tokens, c.heads, c.width}, k{tokens, c.kv_heads, c.width};
  Tensors a;
  a.in = {t.normal("q", dtype, q), t.normal("k", dtype, k), t.normal("v", dtype, k)};
  a.options.window = c.window;
  a.segments = t.segments(c.lengths);
  a.y = t.make(dtype, q);
  a.log_sum_exp = t.make(accumulator_of(dtype), {tokens, c.heads});
  a.dy = t.normal("dy", dtype, q);
  a.grads = {t.make(dtype, q), t.make(dtype, k), t.make(dtype, k)};
  return a;
}

void forward(Context& ctx, const Tensors& a) {
  ops::attention_forward(ctx, a.y, a.log_sum_exp, a.in, a.segments, a.options);
}
void backward(Context& ctx, const Tensors& a) {
  ops::attention_backward(ctx, a.grads, a.dy, a.in, {a.y, a.log_sum_exp}, a.segments, a.options);
}

// Terms in the longest sum that an element comes from: the scores and the visible tokens.
std::int64_t reduction_length(const AttentionCase& c) {
  return c.width + *std::max_element(c.lengths.begin(), c.lengths.end());
}

// Each pass knows the longest sequence, or does not (0).
void run_both_passes(Trial& t, const AttentionCase& c, std::int64_t in_forward, std::int64_t in_backward) {
  Tensors a = make_tensors(t.tensors, t.dtype, c);
  a.segments.longest = in_forward;
  forward(t.ctx, a);
  t.result("y", a.y, reduction_length(c));
  t.result("log_sum_exp", a.log_sum_exp, reduction_length(c));
  a.segments.longest = in_backward;
  backward(t.ctx, a);
  t.result("dq", a.grads.q, reduction_length(c));
  t.result("dk", a.grads.k, reduction_length(c));
  t.result("dv", a.grads.v, reduction_length(c));
}

TEST(Attention, BackendsAgree) {
  for (const auto& c : test::attention_cases()) {
    test::expect_backends_agree(to_string(c), [&](Trial& t) { run_both_passes(t, c, 0, 0); });
  }
}

// Backends may choose by the longest sequence: on cuda up to 512 and beyond.
TEST(Attention, BackendsAgreeWhereTheLongestIsKnown) {
  for (const AttentionCase& c : {AttentionCase{4, 4, 64, 0, {65, 0, 1, 129, 64, 15}},
                                 {4, 2, 64, 70, {1, 200, 128, 129}},
                                 {3, 1, 40, 0, {17, 150}},
                                 {2, 1, 64, 1, {1, 90}},
                                 {2, 1, 128, 0, {140, 9}},
                                 {1, 1, 64, 0, {512, 3}},
                                 {1, 1, 64, 0, {513, 3}}}) {
    const auto longest = *std::max_element(c.lengths.begin(), c.lengths.end());
    test::expect_backends_agree(to_string(c) + ", longest known",
                                [&](Trial& t) { run_both_passes(t, c, longest, longest); });
  }
}

// The passes may then be of different kernels, which must agree on log_sum_exp.
TEST(Attention, BackendsAgreeWhereOnlyBackwardKnowsTheLongest) {
  const AttentionCase c{4, 2, 64, 0, {65, 0, 1, 200}};
  test::expect_backends_agree(to_string(c) + ", longest known to backward",
                              [&](Trial& t) { run_both_passes(t, c, 0, 200); });
}

// Their softmax weight is 1 whatever the score: the tensor cores' sums must cancel to the last bit.
TEST(Attention, RowsThatSeeOnlyThemselvesOnTensorCores) {
  if (!test::testing_cuda()) GTEST_SKIP() << "BRAID_TEST_BACKEND is not cuda";
  test::TestContext& context = test::cuda_context();
  for (const std::int64_t width : {24, 64}) {
    test::TestTensors t(1, DType::bf16, test::Contents::real, context.backend().memory);
    Tensors a = make_tensors(t, DType::bf16, {4, 2, width, 1, {1, 1, 300, 65}});
    a.segments.longest = 300;
    forward(*context, a);
    backward(*context, a);
    for (const auto& [gradient, name] : {std::pair{a.grads.q, "dq"}, std::pair{a.grads.k, "dk"}}) {
      const ConstTensor got = t.on_host(gradient);
      for (std::int64_t i = 0; i < got.count(); ++i) ASSERT_EQ(test::element(got, i), 0) << name << " " << i;
    }
  }
}

TEST(Attention, ScaleOptionAndLargeScores) {
  test::expect_backends_agree("scale 30", [](Trial& t) {
    Tensors a = make_tensors(t.tensors, t.dtype, {2, 1, 16, 0, {40, 3}});
    a.options.scale = 30;  // scores of hundreds: the softmax is nearly one-hot
    forward(t.ctx, a);
    // A score of size s carries an absolute error of s unit roundoffs into the exponential; bf16 rounds y
    // besides.
    constexpr double kScores = 30 * 16 * 0x1p-24;
    const double rms = kScores + (t.dtype == DType::bf16 ? test::tolerance_for(t.dtype, 16).relative_rms : 0);
    t.result("y", a.y, test::Tolerance{rms, 12 * rms});
    t.result("log_sum_exp", a.log_sum_exp, 16);
  });
}

TEST(Attention, GradientIsThatOfDifferences) {
  for (const auto& c : test::small_attention_cases()) {
    auto context = test::reference_context();
    test::TestTensors t(1);
    const Tensors a = make_tensors(t, DType::f64, c);
    const auto loss = [&] {
      forward(*context, a);
      return test::inner_product(a.y, a.dy);
    };
    loss();
    backward(*context, a);
    test::expect_gradient(Tensor{a.in.q}, a.grads.q, loss, "dq, " + to_string(c));
    test::expect_gradient(Tensor{a.in.k}, a.grads.k, loss, "dk, " + to_string(c));
    test::expect_gradient(Tensor{a.in.v}, a.grads.v, loss, "dv, " + to_string(c));
  }
}

// Equal scores: the output is the mean of the visible values, log_sum_exp the log of their number.
TEST(Attention, ZeroQueriesAverageTheVisibleValues) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  Tensors a = make_tensors(t, DType::f64, {1, 1, 1, 2, {3}});
  a.in.q = t.zeros(DType::f64, a.in.q.shape);
  a.in.v = t.of(DType::f64, {3, 1, 1}, {1, 3, 7});
  forward(*context, a);
  test::expect_close(a.y, t.of(DType::f64, {3, 1, 1}, {1, 2, 5}), {1e-15, 1e-15}, "y");
  test::expect_close(a.log_sum_exp, t.of(DType::f64, {3, 1}, {0, std::log(2), std::log(2)}), {1e-15, 1e-15},
                     "log_sum_exp");
}

// Each backend for which bitwise promises hold: the reference, and the cpu backend in strict arithmetic.
std::vector<std::pair<const char*, test::TestContext>> strict_contexts() {
  std::vector<std::pair<const char*, test::TestContext>> all;
  all.emplace_back("reference", test::reference_context());
  all.emplace_back("cpu", test::cpu_context(2, Arithmetic::strict));
  return all;
}

TEST(Attention, PackedSegmentsEqualSeparateOnes) {
  for (auto& [backend, context] : strict_contexts()) {
    for (const std::int64_t window : {0, 16}) {
      test::TestTensors t(1);
      const AttentionCase c{4, 2, 20, window, {17, 0, 70, 1}};
      const Tensors packed = make_tensors(t, DType::f32, c);
      forward(*context, packed);
      backward(*context, packed);
      std::int64_t begin = 0;
      for (const auto length : c.lengths) {
        Tensors alone = make_tensors(t, DType::f32, {c.heads, c.kv_heads, c.width, window, {length}});
        const auto part = [&](const ConstTensor& x) { return rows_of(x, begin, length); };
        alone.in = {part(packed.in.q), part(packed.in.k), part(packed.in.v)};
        alone.dy = Tensor{part(packed.dy)};
        forward(*context, alone);
        backward(*context, alone);
        test::expect_same(alone.y, part(packed.y), fmt::format("{} y", backend));
        test::expect_same(alone.grads.q, part(packed.grads.q), fmt::format("{} dq", backend));
        test::expect_same(alone.grads.k, part(packed.grads.k), fmt::format("{} dk", backend));
        test::expect_same(alone.grads.v, part(packed.grads.v), fmt::format("{} dv", backend));
        begin += length;
      }
    }
  }
}

TEST(Attention, NanStaysInItsSegment) {
  for (auto& [backend, context] : strict_contexts()) {
    test::TestTensors t(1);
    const AttentionCase c{2, 1, 12, 0, {17, 5, 30}};
    const Tensors clean = make_tensors(t, DType::f32, c), dirty = make_tensors(t, DType::f32, c);
    for (const ConstTensor& x : {dirty.in.q, dirty.in.k, dirty.in.v, ConstTensor{dirty.dy}}) {
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
      const auto same = [&, b = begin, n = rows](const ConstTensor& got, const ConstTensor& want,
                                                 std::string_view what) {
        test::expect_same(rows_of(got, b, n), rows_of(want, b, n), fmt::format("{} {}", backend, what));
      };
      same(dirty.y, clean.y, "y");
      same(dirty.grads.q, clean.grads.q, "dq");
      same(dirty.grads.k, clean.grads.k, "dk");
      same(dirty.grads.v, clean.grads.v, "dv");
    }
  }
}

// How sequences are fed to the cache: feeds[i][s] tokens of sequence s in call i.
struct CachedCase {
  std::int64_t window, capacity;
  std::vector<test::Lengths> feeds;
  std::int64_t heads = 4, kv_heads = 2, width = 20;
};
std::string to_string(const CachedCase& c) {
  return fmt::format("heads {}/{} width {} window {} capacity {} calls {}", c.heads, c.kv_heads, c.width,
                     c.window, c.capacity, c.feeds.size());
}

std::vector<CachedCase> cached_cases() {
  const std::vector<test::Lengths> decode(40, test::Lengths{1, 1});
  std::vector<test::Lengths> ragged{{33, 0}, {0, 1}, {1, 17}, {7, 7}, {1, 0}, {0, 16}, {3, 1}};
  // Long enough that decoding splits the keys among blocks, with rings that wrap.
  std::vector<test::Lengths> grown{{150, 67}, {70, 0}, {1, 1}, {1, 1}, {0, 2}, {2, 0}, {65, 1}, {1, 1}};
  // Enough sequences to fill a GPU, some of them long, some idle in between.
  std::vector<test::Lengths> many(5, test::Lengths(70, 1));
  for (std::size_t s = 0; s < 70; ++s) {
    many[0][s] = static_cast<std::int64_t>(s % 12 == 0 ? 150 + s % 13 : s % 7);
    many[1][s] = s % 12 == 0 ? 130 : 1;
    many[3][s] = s % 9 == 0 ? 0 : 1;
  }
  std::vector<test::Lengths> two_long(4, test::Lengths(70, 1));
  two_long[0][5] = 130, two_long[0][69] = 63, two_long[2][3] = 0;
  // Rings that wrap: twice round, by parts and one by one. And a few tokens of each sequence at once.
  std::vector<test::Lengths> round_and_round(16, test::Lengths(70, 14)), few_each(5, test::Lengths(70, 1));
  for (std::size_t s = 0; s < 70; ++s) {
    round_and_round[1][s] = static_cast<std::int64_t>(s % 17);
    for (const std::size_t call : {13U, 14U, 15U}) round_and_round[call][s] = (s + call) % 9 == 0 ? 0 : 1;
    few_each[0][s] = static_cast<std::int64_t>(s * 7 % 80);
    few_each[1][s] = 3, few_each[3][s] = static_cast<std::int64_t>(s % 6);
  }
  const std::vector<test::Lengths> long_parts{{300, 256}, {0, 260}, {384, 1}, {1, 0}, {129, 383}};
  return {{0, 40, decode},
          {0, 64, ragged},
          {16, 64, ragged},
          {16, 16 + 33 - 1, ragged},
          {1, 33, ragged},
          {16, 16, decode},
          {1, 1, decode},
          {100, 45, ragged},
          {0, 70, {{70, 1}}},
          {5, 9, std::vector<test::Lengths>(9, {5, 3})},
          {0, 300, grown, 3, 1, 12},
          {90, 90 + 150 - 1, grown, 6, 1, 64},
          {0, 300, grown, 2, 2, 128},
          {100, 260, grown, 5, 1, 256},
          {0, 300, many, 2, 2, 64},
          {120, 120 + 162 - 1, many, 4, 2, 96},
          {0, 300, many, 8, 2, 128},
          {0, 300, many, 5, 1, 32},
          {64, 79 + 1, round_and_round, 2, 2, 16},
          {40, 40 + 80, round_and_round, 4, 2, 16},
          {0, 100, few_each, 4, 2, 16},
          {0, 170, two_long, 3, 3, 128},
          {140, 140 + 130 - 1, two_long, 2, 2, 16},
          {0, 170, two_long, 9, 1, 72},
          {0, 170, two_long, 2, 2, 256},
          // Prompts and long parts of them; with windows, as long as no ring has wrapped.
          {0, 900, long_parts, 4, 2, 64},
          {100, 900, long_parts, 2, 1, 128},
          {100, 100 + 384 - 1, long_parts, 2, 2, 16}};
}

// Copies tokens between whole sequences, one after another, and the call that feeds `feed` tokens of each
// after `done` of them.
void move_tokens(Context& ctx, const Tensor& to, const ConstTensor& from, bool gather,
                 const test::Lengths& totals, const test::Lengths& done, const test::Lengths& feed) {
  std::int64_t begin = 0, at = 0;
  for (std::size_t s = 0; s < totals.size(); begin += totals[s], at += feed[s], ++s) {
    const auto whole = begin + done[s];
    if (feed[s] == 0) continue;
    ops::copy(ctx, rows_of(to, gather ? at : whole, feed[s]), rows_of(from, gather ? whole : at, feed[s]));
  }
}

enum class CachedRun : std::uint8_t { uncached, lengths_unknown, lengths_known };

// Runs one case; y of all tokens, sequence after sequence, is the result. The uncached op on whole sequences
// is the judge.
void run_cached(Trial& t, const CachedCase& c, CachedRun run) {
  test::Lengths totals(c.feeds[0].size(), 0);
  for (const auto& feed : c.feeds) {
    for (std::size_t s = 0; s < totals.size(); ++s) totals[s] += feed[s];
  }
  const Tensors whole = make_tensors(t.tensors, t.dtype, {c.heads, c.kv_heads, c.width, c.window, totals});
  const auto longest = std::max<std::int64_t>(128, *std::max_element(totals.begin(), totals.end()));
  if (run == CachedRun::uncached) {
    forward(t.ctx, whole);
    t.result("y", whole.y, c.width + longest);
    return;
  }
  const Shape slots{static_cast<std::int64_t>(totals.size()), c.capacity, c.kv_heads, c.width};
  ops::KeyValueCache cache{t.tensors.make(t.dtype, slots), t.tensors.make(t.dtype, slots)};
  test::Lengths done(totals.size(), 0);
  for (const auto& feed : c.feeds) {
    const Shape queries{test::sum_of(feed), c.heads, c.width}, keys{queries[0], c.kv_heads, c.width};
    const Tensor q = t.tensors.make(t.dtype, queries), y = t.tensors.make(t.dtype, queries);
    const Tensor k = t.tensors.make(t.dtype, keys), v = t.tensors.make(t.dtype, keys);
    move_tokens(t.ctx, q, whole.in.q, true, totals, done, feed);
    move_tokens(t.ctx, k, whole.in.k, true, totals, done, feed);
    move_tokens(t.ctx, v, whole.in.v, true, totals, done, feed);
    std::vector<std::int32_t> lengths(done.begin(), done.end());
    auto segments = t.tensors.segments(feed);
    if (run == CachedRun::lengths_known) {
      cache.longest = *std::max_element(done.begin(), done.end());
      segments.longest = *std::max_element(feed.begin(), feed.end());
    }
    ops::attention_cached(t.ctx, y, cache, {q, k, v}, segments, t.tensors.of(lengths), whole.options);
    move_tokens(t.ctx, whole.y, y, false, totals, done, feed);
    for (std::size_t s = 0; s < totals.size(); ++s) done[s] += feed[s];
  }
  t.result("y", whole.y, c.width + longest);
}

TEST(AttentionCached, BackendsAgree) {
  for (const auto& c : cached_cases()) {
    test::expect_backends_agree(to_string(c),
                                [&](Trial& t) { run_cached(t, c, CachedRun::lengths_unknown); });
    test::expect_backends_agree(to_string(c) + ", lengths known",
                                [&](Trial& t) { run_cached(t, c, CachedRun::lengths_known); });
  }
}

// Together the sequences share out a GPU by their keys, each alone is cut on its own: long enough that every
// place of a multiprocessor's ring is filled several times.
TEST(AttentionCached, CudaSequencesTogetherEqualEachAlone) {
  if (!test::testing_cuda()) GTEST_SKIP() << "BRAID_TEST_BACKEND is not cuda";
  test::TestContext& context = test::cuda_context();
  struct Case {
    std::int64_t sequences, heads, kv_heads, width, window, capacity;
  };
  for (const Case& c : {Case{48, 3, 3, 128, 0, 1300},
                        {70, 2, 2, 256, 0, 700},
                        {48, 6, 3, 64, 1000, 1003},
                        {70, 18, 2, 72, 1000, 1200}}) {
    test::TestTensors t(3, DType::bf16, test::Contents::real, context.backend().memory);
    const Shape slots{c.sequences, c.capacity, c.kv_heads, c.width}, keys{c.sequences, c.kv_heads, c.width};
    const ops::KeyValueCache cache{t.normal("k cache", DType::bf16, slots),
                                   t.normal("v cache", DType::bf16, slots)};
    const Tensor q = t.normal("q", DType::bf16, {c.sequences, c.heads, c.width}, {.scale = 2});
    const Tensor k = t.normal("k", DType::bf16, keys), v = t.normal("v", DType::bf16, keys);
    const Tensor together = t.make(DType::bf16, q.shape), alone = t.make(DType::bf16, q.shape);
    std::vector<std::int32_t> lengths;
    for (std::int64_t s = 0; s < c.sequences; ++s) {
      const auto most = c.window == c.capacity - 3 ? 3 * c.capacity : c.capacity - 1;
      lengths.push_back(static_cast<std::int32_t>(s == 5 ? 0 : most - s * s * 7 % (most / 2)));
    }
    Context ctx = *context;
    const auto run = [&](std::int64_t first, std::int64_t count, const Tensor& y) {
      auto segments = t.segments(std::vector<std::int64_t>(static_cast<std::size_t>(count), 1));
      segments.longest = 1;
      const std::vector<std::int32_t> theirs(lengths.begin() + first, lengths.begin() + first + count);
      ops::attention_cached(ctx, rows_of(y, first, count),
                            {rows_of(cache.k, first, count), rows_of(cache.v, first, count)},
                            {rows_of(q, first, count), rows_of(k, first, count), rows_of(v, first, count)},
                            segments, t.of(theirs), {.window = c.window});
    };
    run(0, c.sequences, together);
    for (std::int64_t s = 0; s < c.sequences; ++s) run(s, 1, alone);
    const auto name = fmt::format("{} sequences, heads {}/{}, width {}, window {}", c.sequences, c.heads,
                                  c.kv_heads, c.width, c.window);
    test::expect_close(t.on_host(together), t.on_host(alone), {4e-3, 3e-2}, name);
    const Tensor ahead = t.make(DType::bf16, q.shape);
    ctx.fetch = Fetch::ahead;
    run(0, c.sequences, ahead);
    test::expect_same(t.on_host(ahead), t.on_host(together), name + ", caches fetched ahead");
    for (std::int64_t s = 0; s < 3; ++s) run(s, 1, ahead);
    test::expect_same(rows_of(t.on_host(ahead), 0, 3), rows_of(t.on_host(alone), 0, 3),
                      name + ", each alone, fetched ahead");
  }
}

TEST(AttentionCached, KnowingTheLengthsChangesNothing) {
  for (const Arithmetic arithmetic : {Arithmetic::fast, Arithmetic::strict}) {
    auto context = test::cpu_context(2, arithmetic);
    for (const auto& c : cached_cases()) {
      const auto run = [&](CachedRun way) {
        return test::run_on(context, DType::f32, 1, [&](Trial& t) { run_cached(t, c, way); });
      };
      test::expect_results_same(run(CachedRun::lengths_known), run(CachedRun::lengths_unknown), to_string(c));
    }
  }
}

TEST(AttentionCached, AnyChunkingEqualsTheWhole) {
  auto context = test::reference_context();
  for (const auto& c : cached_cases()) {
    const auto cached =
        test::run_on(context, DType::f64, 1, [&](Trial& t) { run_cached(t, c, CachedRun::lengths_known); });
    const auto whole =
        test::run_on(context, DType::f64, 1, [&](Trial& t) { run_cached(t, c, CachedRun::uncached); });
    test::expect_results_same(cached, whole, to_string(c));
  }
}

TEST(Attention, BadArguments) {
  auto context = test::reference_context();
  test::TestTensors t(1);
  const Tensors good = make_tensors(t, DType::f32, {3, 3, 4, 0, {2, 1}});
  const auto broken = [&](auto&& change) {
    Tensors a = good;
    change(a);
    return [a, &context] { forward(*context, a); };
  };
  using test::expect_op_error;
  const Tensor two_heads = t.zeros(DType::f32, {3, 2, 4});
  expect_op_error(broken([&](Tensors& a) { a.in.k = a.in.v = two_heads; }), "attention_forward",
                  "3 query heads cannot share 2");
  expect_op_error(broken([&](Tensors& a) { a.in.v = two_heads; }), "attention_forward", "v is");
  expect_op_error(broken([&](Tensors& a) { a.y = two_heads; }), "attention_forward", "y is");
  expect_op_error(broken([&](Tensors& a) { a.options.window = -1; }), "attention_forward", "window -1");
  expect_op_error(broken([&](Tensors& a) {
                    a.segments = t.segments({1, 1});
                  }),
                  "attention_forward", "segments.offsets");
  expect_op_error(
      [&] {
        Tensors a = good;
        a.grads.k = two_heads;
        backward(*context, a);
      },
      "attention_backward", "dk is");
  const ops::KeyValueCache cache{t.zeros(DType::f32, {2, 2, 3, 4}), t.zeros(DType::f32, {2, 2, 3, 4})};
  const auto cached = [&](ops::KeyValueCache to, ConstTensor lengths) {
    return [=, &context] {
      ops::attention_cached(*context, good.y, to, good.in, good.segments, lengths, good.options);
    };
  };
  expect_op_error(cached(cache, t.of({0})), "attention_cached", "lengths is");
  expect_op_error(cached({cache.k, t.zeros(DType::f32, {2, 3, 3, 4})}, t.of({0, 0})), "attention_cached",
                  "cache.v is");
  expect_op_error(cached(cache, t.of({1, 0})), "attention_cached", "needs 3 cached tokens");
  expect_op_error(cached({cache.k, cache.v, -1}, t.of({0, 0})), "attention_cached", "longest -1");
  expect_op_error(cached({cache.k, cache.v, 0}, t.of({0, 1})), "attention_cached", "sequence 1 has 1 cached");
  auto cpu = test::cpu_context();
  const auto on_cpu = [&] {
    ops::attention_cached(*cpu, good.y, {cache.k, cache.v, 0}, good.in, good.segments, t.of({0, 1}),
                          good.options);
  };
  expect_op_error(on_cpu, "attention_cached", "sequence 1 has 1 cached");
}

}  // namespace
}  // namespace braid
