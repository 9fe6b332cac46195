// The gated delta rule: agreement with the f64 reference on ordinary inputs, and identities.
#include "braid/ops/gated_delta.h"

#include <cmath>
#include <numeric>

#include "braid/backends/cpu/targets.h"
#include "tests/ops/gated_delta_support.h"
#include "tests/support/gradient_check.h"

namespace braid::test {
namespace {

void expect_delta_agrees(const GatedDeltaCase& c, DeltaMethod method) {
  const auto name = to_string(c) + ", " + kMethodNames[static_cast<int>(method)];
  expect_backends_agree(name, [&](Trial& t) {
    const Delta d = make_delta(t.tensors, t.dtype, c, method);
    d.run(t.ctx);
    report(t, d);
  });
}

TEST(GatedDelta, BackendsAgree) {
  for (const auto& c : gated_delta_cases()) {
    for (const auto method : {DeltaMethod::chunked, DeltaMethod::recurrent}) expect_delta_agrees(c, method);
  }
  expect_delta_agrees({1, 2, 12, 20, {0, 1, 15, 16, 17, 31, 32, 33, 65}}, DeltaMethod::automatic);
}

// Widths that are multiples of 16 take the tensor cores in bf16: one with padding, those of the models, and
// slices of the value width that are not full.
TEST(GatedDelta, TensorCoreWidths) {
  for (const auto& lengths : segment_cases())
    expect_delta_agrees({1, 2, 48, 32, lengths}, DeltaMethod::chunked);
  const std::int64_t widths[][2] = {{16, 16}, {32, 80},  {64, 64},   {64, 128},  {64, 48},
                                    {96, 64}, {96, 192}, {128, 112}, {128, 128}, {128, 256}};
  for (const auto& [key, value] : widths) {
    expect_delta_agrees({1, 1, key, value, {129, 0, 17}}, DeltaMethod::chunked);
  }
  expect_delta_agrees({1, 1, 192, 48, {70}}, DeltaMethod::chunked);
  expect_delta_agrees({1, 2, 256, 256, {66}}, DeltaMethod::chunked);
  expect_delta_agrees({2, 6, 32, 16, {65, 3}}, DeltaMethod::chunked);
}

// The first `width` elements of every row of t.
Tensor first_columns(TestTensors& tensors, const ConstTensor& t, std::int64_t width) {
  const ConstTensor from = tensors.on_host(t);
  Shape shape = from.shape;
  const std::int64_t columns = shape[-1];
  shape.dims[static_cast<std::size_t>(shape.rank - 1)] = width;
  std::vector<double> values;
  for (std::int64_t i = 0; i < from.count(); ++i) {
    if (i % columns < width) values.push_back(element(from, i));
  }
  return tensors.of(from.dtype, shape, values);
}

// Columns of the values know nothing of each other: the first 48 of 64 must come out as 48 alone do, which on
// CUDA other kernels scan.
TEST(GatedDelta, ValueColumnsAreIndependent) {
  for_each_tested([](TestContext& ctx, TestContext&, DType dtype) {
    for (const std::int64_t key_width : {64, 96, 128}) {
      TestTensors tensors = tensors_for(ctx, 21, dtype);
      const Delta all =
          make_delta(tensors, dtype, {1, 2, key_width, 64, {200, 0, 65, 17}}, DeltaMethod::chunked);
      Delta some = all;
      some.in.v = first_columns(tensors, all.in.v, 48);
      some.dy = first_columns(tensors, all.dy, 48);
      some.initial = first_columns(tensors, all.initial, 48);
      some.dfinal = first_columns(tensors, all.dfinal, 48);
      make_outputs(some, tensors);
      all.run(*ctx);
      some.run(*ctx);
      const RoundedTolerances rounded = rounded_tolerances(Regime::ordinary);
      const auto compare = [&](const Tensor& got, const Tensor& want, double limit, const char* name) {
        const Tolerance tolerance =
            dtype == DType::bf16 ? Tolerance{limit, 20 * limit} : tolerance_for(DType::f32, 2 * key_width);
        expect_close(tensors.on_host(first_columns(tensors, got, 48)), tensors.on_host(want), tolerance,
                     fmt::format("{}, key width {}", name, key_width));
      };
      compare(all.y, some.y, rounded.y, "y");
      compare(all.final, some.final, rounded.y, "final");
      compare(all.grads.v, some.grads.v, rounded.dkv, "dv");
      compare(all.dinitial, some.dinitial, rounded.dkv, "dinitial");
    }
  });
}

TEST(GatedDelta, LongSegments) {
  expect_delta_agrees({1, 1, 32, 64, {2048 + 77}}, DeltaMethod::chunked);
  expect_delta_agrees({1, 1, 32, 64, {2048 + 77}}, DeltaMethod::recurrent);
}

// The states may be undefined: zero at the start, zero gradient at the end, no checkpoints.
TEST(GatedDelta, StatesAreOptional) {
  expect_backends_agree("no states", [](Trial& t) {
    Delta d = make_delta(t.tensors, t.dtype, {1, 2, 16, 32, {70, 0, 5}});
    d.initial = d.dfinal = d.final = d.dinitial = Tensor{};
    const Tensor same = t.tensors.make(t.dtype, d.y.shape);
    ops::gated_delta_forward(t.ctx, same, {}, {}, d.in, d.segments, {});
    d.run(t.ctx);
    const auto add = [&](const char* name, const Tensor& x, std::int64_t terms, double rounded) {
      t.result(name, x,
               t.dtype == DType::bf16 ? Tolerance{rounded, 20 * rounded} : tolerance_for(DType::f32, terms));
    };
    const RoundedTolerances rounded = rounded_tolerances(Regime::ordinary);
    add("y without checkpoints", same, 76, rounded.y);
    add("y", d.y, 76, rounded.y);
    add("dq", d.grads.q, 96, rounded.dq);
    add("dk", d.grads.k, 96, rounded.dkv);
    add("dlog_decay", d.grads.log_decay, 240, rounded.dlog_decay);
  });
}

TEST(GatedDelta, FinalMayBeInitial) {
  for_each_tested([](TestContext& ctx, TestContext&, DType dtype) {
    for (const auto method : kMethods) {
      TestTensors tensors = tensors_for(ctx, 3, dtype);
      const Delta d = make_delta(tensors, dtype, {2, 2, 32, 48, {0, 1, 70}}, method);
      const Tensor state = tensors.copy_of(d.initial), y = tensors.make(dtype, d.y.shape);
      d.run(*ctx);
      ops::gated_delta_forward(*ctx, y, {}, {state, state}, d.in, d.segments, {.method = method});
      expect_same_memory(tensors, state, d.final, "state in place");
      expect_same_memory(tensors, y, d.y, "y in place");
    }
  });
}

TEST(GatedDelta, ReferenceGradients) {
  TestContext ctx = reference_context();
  for (const auto& c : small_gated_delta_cases()) {
    TestTensors tensors(11, DType::f64);
    const Delta d = make_delta(tensors, DType::f64, c);
    d.run(*ctx);
    const auto loss = [&] {
      ops::gated_delta_forward(*ctx, d.y, {}, {d.initial, d.final}, d.in, d.segments, {});
      return inner_product(d.y, d.dy) + inner_product(d.final, d.dfinal);
    };
    const auto what = to_string(c);
    const double step = c.key_width == 1 ? 1e-3 * kDifferenceStep : kDifferenceStep;
    expect_gradient(d.q(), d.grads.q, loss, "q, " + what, step);
    expect_gradient(d.k(), d.grads.k, loss, "k, " + what, step);
    expect_gradient(d.v(), d.grads.v, loss, "v, " + what);
    expect_gradient(d.log_decay(), d.grads.log_decay, loss, "log_decay, " + what);
    expect_gradient(d.beta(), d.grads.beta, loss, "beta, " + what);
    expect_gradient(d.initial, d.dinitial, loss, "initial, " + what);
  }
}

// --- identities ------------------------------------------------------------------------------------------

// Segment s of a pack as a call of its own, with outputs of its own.
Delta segment_of(const Delta& d, TestTensors& tensors, const Lengths& lengths, std::size_t s) {
  const std::int64_t begin =
      std::accumulate(lengths.begin(), lengths.begin() + static_cast<std::ptrdiff_t>(s), std::int64_t{0});
  const std::int64_t n = lengths[s], slot = static_cast<std::int64_t>(s);
  Delta one = d;
  one.in = {rows_of(d.in.q, begin, n), rows_of(d.in.k, begin, n), rows_of(d.in.v, begin, n),
            rows_of(d.in.log_decay, begin, n), rows_of(d.in.beta, begin, n)};
  one.segments = tensors.segments({n});
  one.dy = rows_of(d.dy, begin, n);
  one.initial = rows_of(d.initial, slot, 1);
  one.dfinal = rows_of(d.dfinal, slot, 1);
  make_outputs(one, tensors);
  return one;
}

void expect_same_results(TestTensors& tensors, const Delta& got, const Delta& pack, std::int64_t begin,
                         std::int64_t slot, const std::string& what) {
  const std::int64_t n = got.tokens();
  const auto compare = [&](const char* name, const Tensor& x, const Tensor& want) {
    expect_same_memory(tensors, x, want, fmt::format("{}, {}", name, what));
  };
  compare("y", got.y, rows_of(pack.y, begin, n));
  compare("dq", got.grads.q, rows_of(pack.grads.q, begin, n));
  compare("dk", got.grads.k, rows_of(pack.grads.k, begin, n));
  compare("dv", got.grads.v, rows_of(pack.grads.v, begin, n));
  compare("dlog_decay", got.grads.log_decay, rows_of(pack.grads.log_decay, begin, n));
  compare("dbeta", got.grads.beta, rows_of(pack.grads.beta, begin, n));
  compare("final", got.final, rows_of(pack.final, slot, 1));
  compare("dinitial", got.dinitial, rows_of(pack.dinitial, slot, 1));
}

// Fills every second segment with NaN, its initial state too.
void poison_odd_segments(const Changes& c, const Lengths& lengths) {
  std::vector<bool> poisoned;
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    poisoned.insert(poisoned.end(), static_cast<std::size_t>(lengths[s]), s % 2 == 1);
  }
  const auto poison = [&](ConstTensor& t, auto is_poisoned) {
    c.set(t, [&](auto n, auto i, const auto& now) {
      const std::int64_t width = now.count() / now.shape[0];
      return is_poisoned(n) ? std::nan("") : element(now, n * width + i);
    });
  };
  ConstTensor dy = c.d.dy, initial = c.d.initial;
  for (ConstTensor* t : {&c.d.in.q, &c.d.in.k, &c.d.in.v, &c.d.in.log_decay, &c.d.in.beta, &dy}) {
    poison(*t, [&](std::int64_t n) { return poisoned[static_cast<std::size_t>(n)]; });
  }
  poison(initial, [](std::int64_t s) { return s % 2 == 1; });
  c.d.dy = Delta::writable(dy);
  c.d.initial = Delta::writable(initial);
}

// So the order of segments does not matter either. Every second segment holds nothing but NaN.
void expect_segments_alone(TestContext& ctx, TestContext& other, DType dtype, DeltaMethod method) {
  const Lengths lengths{65, 3, 0, 1, 17, 64, 129, 15, 1, 0, 127, 16};
  TestTensors tensors = tensors_for(ctx, 9, dtype);
  Delta pack = make_delta(tensors, dtype, {1, 2, 32, 48, lengths}, method);
  poison_odd_segments({tensors, pack}, lengths);
  pack.run(*ctx);
  std::int64_t begin = 0;
  for (std::size_t s = 0; s < lengths.size(); begin += lengths[s++]) {
    if (s % 2 == 1) continue;
    const Delta alone = segment_of(pack, tensors, lengths, s);
    alone.run(*other);
    const ConstTensor y = tensors.on_host(alone.y);
    EXPECT_TRUE(y.count() == 0 || std::isfinite(element(y, y.count() - 1)));
    expect_same_results(tensors, alone, pack, begin, static_cast<std::int64_t>(s),
                        fmt::format("segment {}, {}", s, kMethodNames[static_cast<int>(method)]));
  }
}

TEST(GatedDelta, SegmentAloneIsSegmentInPack) {
  for_each_tested([](TestContext& ctx, TestContext& other, DType dtype) {
    for (const auto method : kMethods) {
      // On cuda the kind of kernel that is chosen may depend on the whole call.
      if (!testing_cuda() || method != DeltaMethod::automatic)
        expect_segments_alone(ctx, other, dtype, method);
    }
  });
}

// The first `at` tokens and the rest, the state and its gradient passed between them.
void expect_split(const Delta& whole, TestTensors& tensors, TestContext& ctx, std::int64_t at, bool bitwise) {
  const Lengths lengths{at, whole.tokens() - at};
  Delta both = whole;
  both.segments = tensors.segments(lengths);
  const auto& shape = whole.initial.shape;
  both.initial = tensors.zeros(DType::f32, {2, shape[1], shape[2], shape[3]});
  both.dfinal = both.initial;
  Delta first = segment_of(both, tensors, lengths, 0), second = segment_of(both, tensors, lengths, 1);
  first.initial = whole.initial;
  const ops::GatedDeltaOptions options{.method = whole.method};
  ops::gated_delta_forward(*ctx, first.y, first.checkpoints, {first.initial, first.final}, first.in,
                           first.segments, options);
  second.initial = first.final;
  second.dfinal = whole.dfinal;
  second.run(*ctx);
  first.dfinal = second.dinitial;
  ops::gated_delta_backward(*ctx, first.grads, {first.dinitial, first.dfinal}, first.dy, first.in,
                            {first.checkpoints, first.initial}, first.segments, options);
  const std::int64_t rest = lengths[1], terms = shape[2] * shape[3] + 32 * 32;
  const bool rounded = whole.y.dtype == DType::bf16;
  const auto compare = [&](const Tensor& x, const Tensor& y, const char* name, bool same_start = true) {
    const auto what = fmt::format("{}, split at {}", name, at);
    const ConstTensor got = tensors.on_host(x), want = tensors.on_host(y);
    // Two bf16 runs that round at different places.
    const Tolerance limit = rounded ? Tolerance{2e-2, 0.2} : tolerance_for(DType::f32, terms);
    const bool same = bitwise && same_start;
    same ? expect_same(got, want, what) : expect_close(got, want, limit, what);
  };
  compare(first.y, rows_of(whole.y, 0, at), "first y");
  compare(second.y, rows_of(whole.y, at, rest), "second y");
  compare(second.final, whole.final, "final");
  compare(first.dinitial, whole.dinitial, "dinitial");
  compare(first.grads.q, rows_of(whole.grads.q, 0, at), "first dq");
  // Backward of the recurrence starts a segment's first chunk from its f32 initial state, but any other one
  // from a checkpoint, which bf16 rounds: the second piece's dq reads the more exact of the two.
  const bool same_start = !(rounded && whole.method == DeltaMethod::recurrent);
  compare(second.grads.q, rows_of(whole.grads.q, at, rest), "second dq", same_start);
  compare(first.grads.k, rows_of(whole.grads.k, 0, at), "first dk");
  compare(first.grads.v, rows_of(whole.grads.v, 0, at), "first dv");
  compare(first.grads.log_decay, rows_of(whole.grads.log_decay, 0, at), "first dlog_decay");
  compare(first.grads.beta, rows_of(whole.grads.beta, 0, at), "first dbeta");
}

TEST(GatedDelta, SplitSegmentIsWholeSegment) {
  for_each_tested([](TestContext& ctx, TestContext&, DType dtype) {
    for (const auto method : {DeltaMethod::chunked, DeltaMethod::recurrent}) {
      TestTensors tensors = tensors_for(ctx, 4, dtype);
      const Delta whole = make_delta(tensors, dtype, {1, 2, 32, 64, {200}}, method);
      whole.run(*ctx);
      for (const std::int64_t at : {64, 128, 192}) expect_split(whole, tensors, ctx, at, true);
      for (const std::int64_t at : {1, 37, 65, 199}) expect_split(whole, tensors, ctx, at, false);
    }
  });
}

// Prefill = token by token, and the recurrence = the chunk form: within twice what each may differ from
// truth.
TEST(GatedDelta, PrefillIsDecode) {
  for_each_tested([](TestContext& ctx, TestContext&, DType dtype) {
    TestTensors tensors = tensors_for(ctx, 8, dtype);
    const std::int64_t tokens = 140;
    const Delta whole = make_delta(tensors, dtype, {2, 4, 48, 96, {tokens}}, DeltaMethod::chunked);
    whole.run(*ctx);
    const Tensor y = tensors.make(dtype, whole.y.shape), state = tensors.copy_of(whole.initial);
    const ops::Segments one = tensors.segments({1});
    for (std::int64_t n = 0; n < tokens; ++n) {
      const ops::GatedDeltaInputs in{rows_of(whole.in.q, n, 1), rows_of(whole.in.k, n, 1),
                                     rows_of(whole.in.v, n, 1), rows_of(whole.in.log_decay, n, 1),
                                     rows_of(whole.in.beta, n, 1)};
      ops::gated_delta_forward(*ctx, rows_of(y, n, 1), {}, {state, state}, in, one, {});
    }
    const double rounded = rounded_tolerances(Regime::ordinary).y;
    const Tolerance each =
        dtype == DType::bf16 ? Tolerance{rounded, 20 * rounded} : tolerance_for(DType::f32, 112);
    const Tolerance both{2 * each.relative_rms, 2 * each.worst};
    expect_close(tensors.on_host(y), tensors.on_host(whole.y), both, "y");
    expect_close(tensors.on_host(state), tensors.on_host(whole.final), both, "state");
  });
}

TEST(GatedDelta, EveryTarget) {
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const std::string name = hwy::TargetName(target);
    for (const auto method : {DeltaMethod::chunked, DeltaMethod::recurrent}) {
      for (const auto& c : {GatedDeltaCase{1, 2, 24, 40, {65, 0, 17, 1}}, GatedDeltaCase{2, 2, 5, 3, {130}},
                            GatedDeltaCase{1, 1, 96, 192, {70}}}) {
        const test::Run run = [&](Trial& t) {
          const Delta d = make_delta(t.tensors, t.dtype, c, method);
          d.run(t.ctx);
          report(t, d);
        };
        TestContext reference = reference_context();
        const Trial want = run_on(reference, DType::f64, 2, run);
        TestContext ctx = cpu_context(1, Arithmetic::fast, name);
        expect_results_close(run_on(ctx, DType::f32, 2, run), want, name + ", " + to_string(c));
      }
    }
  }
  cpu_context();  // back to the best target
}

}  // namespace
}  // namespace braid::test
