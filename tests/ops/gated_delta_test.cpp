// The gated delta rule: agreement with the f64 reference on ordinary and on hard inputs, and identities. One
// file past the usual length, because all of it shares the Delta fixture.
#include "braid/ops/gated_delta.h"

#include <cmath>
#include <numeric>

#include "braid/backends/cpu/targets.h"
#include "tests/support/cases.h"
#include "tests/support/gradient_check.h"
#include "tests/support/trial.h"

namespace braid::test {
namespace {

using ops::DeltaMethod;

// One call's tensors, forward and backward.
struct Delta {
  ops::GatedDeltaInputs in;
  ops::Segments segments;
  Tensor dy, initial, dfinal;
  Tensor y, checkpoints, final;
  ops::GatedDeltaGradients grads;
  Tensor dinitial;
  DeltaMethod method = DeltaMethod::automatic;

  Tensor q() const { return writable(in.q); }
  Tensor k() const { return writable(in.k); }
  Tensor v() const { return writable(in.v); }
  Tensor log_decay() const { return writable(in.log_decay); }
  Tensor beta() const { return writable(in.beta); }
  std::int64_t tokens() const { return in.v.shape[0]; }

  void run(Context& ctx) const {
    const ops::GatedDeltaOptions options{.method = method};
    ops::gated_delta_forward(ctx, y, checkpoints, {initial, final}, in, segments, options);
    ops::gated_delta_backward(ctx, grads, {dinitial, dfinal}, dy, in, {checkpoints, initial}, segments,
                              options);
  }

  static Tensor writable(const ConstTensor& t) {
    Tensor w;
    static_cast<ConstTensor&>(w) = t;
    return w;
  }
};

void make_outputs(Delta& d, TestTensors& tensors) {
  const auto like = [&](const ConstTensor& t) { return tensors.make(t.dtype, t.shape); };
  d.y = like(d.in.v);
  d.checkpoints = tensors.make(d.in.beta.dtype, ops::gated_delta_checkpoint_shape(d.in, d.segments));
  d.final = like(d.initial);
  d.grads = {like(d.in.q), like(d.in.k), like(d.in.v), like(d.in.log_decay), like(d.in.beta)};
  d.dinitial = like(d.initial);
}

Delta make_delta(TestTensors& tensors, DType dtype, const GatedDeltaCase& c,
                 DeltaMethod method = DeltaMethod::automatic) {
  const std::int64_t n = sum_of(c.lengths), segments = static_cast<std::int64_t>(c.lengths.size());
  const Shape key{n, c.key_heads, c.key_width}, value{n, c.value_heads, c.value_width};
  const Shape gate{n, c.value_heads}, state{segments, c.value_heads, c.key_width, c.value_width};
  // A vector of one element keeps its direction: only near epsilon has it a gradient.
  const Fill keys{.scale = c.key_width == 1 ? 1e-3 : 1.0};
  Delta d;
  d.in = {.q = tensors.normal("q", dtype, key, keys),
          .k = tensors.normal("k", dtype, key, keys),
          .v = tensors.normal("v", dtype, value),
          .log_decay = tensors.uniform("log_decay", accumulator_of(dtype), gate, -0.2, 0),
          .beta = tensors.uniform("beta", accumulator_of(dtype), gate, 0, 2)};
  d.segments = tensors.segments(c.lengths);
  d.dy = tensors.normal("dy", dtype, value);
  d.initial = tensors.normal("initial", accumulator_of(dtype), state);
  d.dfinal = tensors.normal("dfinal", accumulator_of(dtype), state);
  d.method = method;
  make_outputs(d, tensors);
  return d;
}

// Terms summed on the longest way into each result: a state entry is read over Dk, a gradient also over Dv,
// each through the tokens of a chunk; a decay's gradient sums over the whole state and over pairs of tokens.
// `factor` is for inputs whose conditioning multiplies the rounding errors.
void report(Trial& t, const Delta& d, double factor = 1) {
  const std::int64_t dk = d.in.k.shape[2], dv = d.in.v.shape[2], read = dk + ops::kDeltaChunk;
  const auto add = [&](const char* name, const Tensor& x, std::int64_t terms, double times) {
    const Tolerance base = tolerance_for(DType::f32, terms);
    t.result(name, x, Tolerance{base.relative_rms * times, base.worst * times});
  };
  add("y", d.y, read, factor);
  add("final", d.final, read, factor);
  add("dq", d.grads.q, read + dv, factor);
  add("dk", d.grads.k, read + dv, factor);
  add("dv", d.grads.v, read + dv, factor);
  add("dbeta", d.grads.beta, read + dv, factor);
  add("dlog_decay", d.grads.log_decay, dk * dv + 32 * 32, factor);
  add("dinitial", d.dinitial, read, factor);
}

constexpr DeltaMethod kMethods[] = {DeltaMethod::automatic, DeltaMethod::chunked, DeltaMethod::recurrent};
constexpr const char* kMethodNames[] = {"automatic", "chunked", "recurrent"};

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

TEST(GatedDelta, LongSegments) {
  expect_delta_agrees({1, 1, 32, 64, {2048 + 77}}, DeltaMethod::chunked);
  expect_delta_agrees({1, 1, 32, 64, {2048 + 77}}, DeltaMethod::recurrent);
}

// The states may be undefined: zero at the start, zero gradient at the end, no checkpoints.
TEST(GatedDelta, StatesAreOptional) {
  expect_backends_agree("no states", [](Trial& t) {
    Delta d = make_delta(t.tensors, t.dtype, {1, 2, 12, 20, {70, 0, 5}});
    d.initial = d.dfinal = d.final = d.dinitial = Tensor{};
    const Tensor same = t.tensors.make(t.dtype, d.y.shape);
    ops::gated_delta_forward(t.ctx, same, {}, {}, d.in, d.segments, {});
    d.run(t.ctx);
    t.result("y without checkpoints", same, 76);
    t.result("y", d.y, 76);
    t.result("dq", d.grads.q, 96);
    t.result("dk", d.grads.k, 96);
    t.result("dlog_decay", d.grads.log_decay, 240);
  });
}

TEST(GatedDelta, FinalMayBeInitial) {
  for (const auto method : kMethods) {
    TestContext ctx = cpu_context();
    TestTensors tensors(3);
    Delta d = make_delta(tensors, DType::f32, {2, 2, 24, 36, {0, 1, 70}}, method);
    const Tensor state = tensors.copy_of(d.initial), y = tensors.make(DType::f32, d.y.shape);
    d.run(*ctx);
    ops::gated_delta_forward(*ctx, y, {}, {state, state}, d.in, d.segments, {.method = method});
    expect_same(state, d.final, "state in place");
    expect_same(y, d.y, "y in place");
  }
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

// --- inputs made to break the chunk form ---------------------------------------------------------------

// Calls f(token, index) for every element of t (N, ...).
void set_all(const Tensor& t, const std::function<double(std::int64_t token, std::int64_t i)>& f) {
  const std::int64_t width = t.shape[0] == 0 ? 1 : t.count() / t.shape[0];
  for (std::int64_t i = 0; i < t.count(); ++i) set_element(t, i, f(i / width, i % width));
}
void set_beta(const Delta& d, double beta) {
  set_all(d.beta(), [&](auto, auto) { return beta; });
}
void set_log_decay(const Delta& d, double g) {
  set_all(d.log_decay(), [&](auto, auto) { return g; });
}
// Key of token n = key of token source(n), with a sign.
void repeat_keys(const Delta& d, std::int64_t period, bool alternate) {
  const std::int64_t width = d.in.k.shape[1] * d.in.k.shape[2];
  set_all(d.k(), [&](std::int64_t n, std::int64_t i) {
    return (alternate && n % 2 == 1 ? -1 : 1) * element(d.in.k, n % period * width + i);
  });
}

struct HardCase {
  const char* name;
  void (*change)(const Delta&);
  double factor = 1;  // on the tolerances of ordinary inputs
};

// Factors: with |1 − β| near 1 and few directions, errors of many tokens add up before they decay; at β = 2
// without decay on one key those of all 200 do, and they are alike: 200 u over u (4 + 2 sqrt(88)), twice.
const HardCase kHardCases[] = {
    {"no decay", [](const Delta& d) { set_log_decay(d, 0); }},
    {"resets",
     [](const Delta& d) {
       set_all(d.log_decay(), [](auto n, auto) { return n % 13 == 5 ? -80.0 : -0.01; });
     }},
    {"a whole chunk of resets, then slow decay",
     [](const Delta& d) { set_all(d.log_decay(), [](auto n, auto) { return n < 96 ? -80.0 : -0.0123; }); }},
    {"decay 0 and -20 in turn",
     [](const Delta& d) { set_all(d.log_decay(), [](auto n, auto) { return n % 2 == 0 ? 0.0 : -20.0; }); }},
    {"decay towards the smallest floats", [](const Delta& d) { set_log_decay(d, -1.4); }},
    {"some beta 0",
     [](const Delta& d) { set_all(d.beta(), [](auto n, auto) { return n % 3 == 1 ? 0.0 : 1.3; }); }},
    {"all beta 0", [](const Delta& d) { set_beta(d, 0); }},
    {"beta 2, no decay",
     [](const Delta& d) {
       set_beta(d, 2);
       set_log_decay(d, 0);
     }},
    {"beta 1.99", [](const Delta& d) { set_beta(d, 1.99); }},
    {"zero keys and queries",
     [](const Delta& d) {
       set_all(d.k(), [&](auto n, auto i) {
         return n % 5 == 2 ? 0 : element(d.in.k, n * d.in.k.shape[1] * d.in.k.shape[2] + i);
       });
       set_all(d.q(), [&](auto n, auto i) {
         return n % 4 == 1 ? 0 : element(d.in.q, n * d.in.q.shape[1] * d.in.q.shape[2] + i);
       });
     }},
    {"keys of the size of epsilon",
     [](const Delta& d) {
       for (std::int64_t i = 0; i < d.in.k.count(); ++i) set_element(d.k(), i, 2e-4f * element(d.in.k, i));
     }},
    {"large values",
     [](const Delta& d) {
       for (std::int64_t i = 0; i < d.in.v.count(); ++i) set_element(d.v(), i, 1e4f * element(d.in.v, i));
     }},
    {"keys of alternating sign, beta 1.99",
     [](const Delta& d) {
       repeat_keys(d, 1, true);
       set_beta(d, 1.99);
     },
     4},
    {"keys of rank 4, beta 2, no decay",
     [](const Delta& d) {
       repeat_keys(d, 4, false);
       set_beta(d, 2);
       set_log_decay(d, 0);
     },
     4},
    {"one key, beta 1, no decay",
     [](const Delta& d) {
       repeat_keys(d, 1, false);
       set_beta(d, 1);
       set_log_decay(d, 0);
     }},
    {"one key, beta 1.9, no decay",
     [](const Delta& d) {
       repeat_keys(d, 1, false);
       set_beta(d, 1.9);
       set_log_decay(d, 0);
     },
     4},
    {"one key, beta 2, no decay",
     [](const Delta& d) {
       repeat_keys(d, 1, false);
       set_beta(d, 2);
       set_log_decay(d, 0);
     },
     24},
};

TEST(GatedDelta, HardInputs) {
  for (const auto& hard : kHardCases) {
    for (const auto method : {DeltaMethod::chunked, DeltaMethod::recurrent}) {
      const auto name = fmt::format("{}, {}", hard.name, kMethodNames[static_cast<int>(method)]);
      expect_backends_agree(name, [&](Trial& t) {
        const Delta d = make_delta(t.tensors, t.dtype, {1, 2, 24, 40, {200, 0, 65, 17}}, method);
        if (d.y.data != nullptr) hard.change(d);
        d.run(t.ctx);
        report(t, d, hard.factor);
      });
    }
  }
}

// All keys equal, β = 1, no decay: the state forgets all but the last value, and every decay's gradient is a
// sum that cancels. Its error is measured by the magnitude of the terms, got from the reference token by
// token: the gradient of the state before the token times that state.
TEST(GatedDelta, DecayGradientThatCancels) {
  const GatedDeltaCase c{1, 1, 24, 40, {150}};
  TestTensors tensors(5);
  const auto make = [&](DType dtype) {
    Delta d = make_delta(tensors, dtype, c, DeltaMethod::chunked);
    repeat_keys(d, 1, false);
    set_beta(d, 1);
    set_log_decay(d, 0);
    set_all(d.initial, [](auto, auto) { return 0.0; });
    set_all(d.dfinal, [](auto, auto) { return 0.0; });
    return d;
  };
  TestContext reference = reference_context(), cpu = cpu_context();
  const Delta want = make(DType::f64), got = make(DType::f32);
  want.run(*reference);
  got.run(*cpu);

  const ops::Segments one = tensors.segments({1});
  const std::int64_t tokens = want.tokens();
  std::vector<Tensor> states{want.initial};
  const auto token = [&](std::int64_t n) {
    Delta t = want;
    t.in = {rows_of(want.in.q, n, 1), rows_of(want.in.k, n, 1), rows_of(want.in.v, n, 1),
            rows_of(want.in.log_decay, n, 1), rows_of(want.in.beta, n, 1)};
    t.segments = one;
    t.dy = rows_of(want.dy, n, 1);
    t.initial = states[static_cast<std::size_t>(n)];
    make_outputs(t, tensors);
    return t;
  };
  for (std::int64_t n = 0; n < tokens; ++n) {
    const Delta t = token(n);
    ops::gated_delta_forward(*reference, t.y, {}, {t.initial, t.final}, t.in, one, {});
    states.push_back(t.final);
  }
  double terms = 0, error = 0;
  Tensor dstate = want.dfinal;
  for (std::int64_t n = tokens; n-- > 0;) {
    Delta t = token(n);
    t.dfinal = dstate;
    t.run(*reference);
    dstate = t.dinitial;
    double sum = 0;
    for (std::int64_t i = 0; i < dstate.count(); ++i) {
      sum += std::abs(element(dstate, i) * element(t.initial, i));
    }
    terms += sum * sum;
    error += std::pow(element(got.grads.log_decay, n) - element(want.grads.log_decay, n), 2);
  }
  EXPECT_GT(terms, 0);
  EXPECT_LT(std::sqrt(error / terms), tolerance_for(DType::f32, 24 * 40 + 32 * 32).relative_rms);
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

void expect_same_results(const Delta& got, const Delta& pack, std::int64_t begin, std::int64_t slot,
                         const std::string& what) {
  const std::int64_t n = got.tokens();
  expect_same(got.y, rows_of(pack.y, begin, n), "y, " + what);
  expect_same(got.grads.q, rows_of(pack.grads.q, begin, n), "dq, " + what);
  expect_same(got.grads.k, rows_of(pack.grads.k, begin, n), "dk, " + what);
  expect_same(got.grads.v, rows_of(pack.grads.v, begin, n), "dv, " + what);
  expect_same(got.grads.log_decay, rows_of(pack.grads.log_decay, begin, n), "dlog_decay, " + what);
  expect_same(got.grads.beta, rows_of(pack.grads.beta, begin, n), "dbeta, " + what);
  expect_same(got.final, rows_of(pack.final, slot, 1), "final, " + what);
  expect_same(got.dinitial, rows_of(pack.dinitial, slot, 1), "dinitial, " + what);
}

// So the order of segments does not matter either. Every second segment holds nothing but NaN.
TEST(GatedDelta, SegmentAloneIsSegmentInPack) {
  const Lengths lengths{65, 3, 0, 1, 17, 64, 129, 15, 1, 0, 127, 16};
  for (const auto method : kMethods) {
    TestContext two = cpu_context(2), one = cpu_context(1);
    TestTensors tensors(9);
    const Delta pack = make_delta(tensors, DType::f32, {1, 2, 20, 36, lengths}, method);
    std::int64_t begin = 0;
    for (std::size_t s = 0; s < lengths.size(); begin += lengths[s++]) {
      if (s % 2 == 0) continue;
      const Delta other = segment_of(pack, tensors, lengths, s);
      for (const Tensor& t : {other.q(), other.k(), other.v(), other.log_decay(), other.beta(),
                              Delta::writable(other.dy), Delta::writable(other.initial)}) {
        for (std::int64_t i = 0; i < t.count(); ++i) set_element(t, i, std::nan(""));
      }
    }
    pack.run(*two);
    begin = 0;
    for (std::size_t s = 0; s < lengths.size(); begin += lengths[s++]) {
      if (s % 2 == 1) continue;
      const Delta alone = segment_of(pack, tensors, lengths, s);
      alone.run(*one);
      EXPECT_TRUE(alone.y.count() == 0 || std::isfinite(element(alone.y, alone.y.count() - 1)));
      expect_same_results(alone, pack, begin, static_cast<std::int64_t>(s),
                          fmt::format("segment {}, {}", s, kMethodNames[static_cast<int>(method)]));
    }
  }
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
  const auto compare = [&](const Tensor& got, const Tensor& want, const char* name) {
    const auto what = fmt::format("{}, split at {}", name, at);
    bitwise ? expect_same(got, want, what) : expect_close(got, want, tolerance_for(DType::f32, terms), what);
  };
  compare(first.y, rows_of(whole.y, 0, at), "first y");
  compare(second.y, rows_of(whole.y, at, rest), "second y");
  compare(second.final, whole.final, "final");
  compare(first.dinitial, whole.dinitial, "dinitial");
  compare(first.grads.q, rows_of(whole.grads.q, 0, at), "first dq");
  compare(second.grads.q, rows_of(whole.grads.q, at, rest), "second dq");
  compare(first.grads.k, rows_of(whole.grads.k, 0, at), "first dk");
  compare(first.grads.v, rows_of(whole.grads.v, 0, at), "first dv");
  compare(first.grads.log_decay, rows_of(whole.grads.log_decay, 0, at), "first dlog_decay");
  compare(first.grads.beta, rows_of(whole.grads.beta, 0, at), "first dbeta");
}

TEST(GatedDelta, SplitSegmentIsWholeSegment) {
  for (const auto method : {DeltaMethod::chunked, DeltaMethod::recurrent}) {
    TestContext ctx = cpu_context();
    TestTensors tensors(4);
    const Delta whole = make_delta(tensors, DType::f32, {1, 2, 32, 64, {200}}, method);
    whole.run(*ctx);
    for (const std::int64_t at : {64, 128, 192}) expect_split(whole, tensors, ctx, at, true);
    for (const std::int64_t at : {1, 37, 65, 199}) expect_split(whole, tensors, ctx, at, false);
  }
}

// Prefill = token by token, and the recurrence = the chunk form: within twice what each may differ from
// truth.
TEST(GatedDelta, PrefillIsDecode) {
  TestContext ctx = cpu_context();
  TestTensors tensors(8);
  const std::int64_t tokens = 140;
  const Delta whole = make_delta(tensors, DType::f32, {2, 4, 48, 96, {tokens}}, DeltaMethod::chunked);
  whole.run(*ctx);
  const Tensor y = tensors.make(DType::f32, whole.y.shape), state = tensors.copy_of(whole.initial);
  const ops::Segments one = tensors.segments({1});
  for (std::int64_t n = 0; n < tokens; ++n) {
    const ops::GatedDeltaInputs in{rows_of(whole.in.q, n, 1), rows_of(whole.in.k, n, 1),
                                   rows_of(whole.in.v, n, 1), rows_of(whole.in.log_decay, n, 1),
                                   rows_of(whole.in.beta, n, 1)};
    ops::gated_delta_forward(*ctx, rows_of(y, n, 1), {}, {state, state}, in, one, {});
  }
  const Tolerance both{2 * tolerance_for(DType::f32, 112).relative_rms,
                       2 * tolerance_for(DType::f32, 112).worst};
  expect_close(y, whole.y, both, "y");
  expect_close(state, whole.final, both, "state");
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
