// What the tests of the gated delta rule share: the tensors of a call, tolerances, changes of the inputs.
#pragma once
#include <cmath>
#include <concepts>
#include <functional>

#include "braid/ops/gated_delta.h"
#include "tests/support/cases.h"
#include "tests/support/trial.h"

namespace braid::test {

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

inline void make_outputs(Delta& d, TestTensors& tensors) {
  const auto like = [&](const ConstTensor& t) { return tensors.make(t.dtype, t.shape); };
  d.y = like(d.in.v);
  d.checkpoints = tensors.make(d.in.v.dtype, ops::gated_delta_checkpoint_shape(d.in, d.segments));
  d.final = like(d.initial);
  d.grads = {like(d.in.q), like(d.in.k), like(d.in.v), like(d.in.log_decay), like(d.in.beta)};
  d.dinitial = like(d.initial);
}

inline Delta make_delta(TestTensors& tensors, DType dtype, const GatedDeltaCase& c,
                        DeltaMethod method = DeltaMethod::automatic) {
  const std::int64_t n = sum_of(c.lengths), segments = static_cast<std::int64_t>(c.lengths.size());
  const Shape key{n, c.key_heads, c.key_width}, value{n, c.value_heads, c.value_width};
  const Shape gate{n, c.value_heads}, state{segments, c.value_heads, c.key_width, c.value_width};
  // A vector of one element keeps its direction: only near epsilon has it a gradient. And a token leaves 1 -
  // β k² of the state: near 0 that would be little but rounding.
  const Fill keys{.scale = c.key_width == 1 ? 1e-3 : 1.0};
  const double most_beta = c.key_width == 1 ? 0.75 : 2;
  Delta d;
  d.in = {.q = tensors.normal("q", dtype, key, keys),
          .k = tensors.normal("k", dtype, key, keys),
          .v = tensors.normal("v", dtype, value),
          .log_decay = tensors.uniform("log_decay", accumulator_of(dtype), gate, -0.2, 0),
          .beta = tensors.uniform("beta", accumulator_of(dtype), gate, 0, most_beta)};
  d.segments = tensors.segments(c.lengths);
  d.dy = tensors.normal("dy", dtype, value);
  d.initial = tensors.normal("initial", accumulator_of(dtype), state);
  d.dfinal = tensors.normal("dfinal", accumulator_of(dtype), state);
  d.method = method;
  make_outputs(d, tensors);
  return d;
}

// What makes rounding errors grow: keys that repeat while β nears 2.
enum class Regime { ordinary, marginal, one_key_beta_1, one_key_beta_19, one_key_beta_2 };

// Relative RMS errors of bf16 runs, whose chunk form rounds its operands to bf16 and f16: more than an
// emulation of those roundings gave. 0: not judged.
struct RoundedTolerances {
  double y, dq, dkv, dbeta, dlog_decay;
};
inline RoundedTolerances rounded_tolerances(Regime regime) {
  switch (regime) {
    case Regime::ordinary:
      return {3e-3, 8e-3, 8e-3, 1e-2, 1e-2};
    case Regime::marginal:
      return {1e-2, 2.5e-2, 2.5e-2, 3e-2, 3e-2};
    case Regime::one_key_beta_1:
      return {1e-2, 0.1, 0.1, 2e-2, 0};  // DecayGradientThatCancels has the last
    case Regime::one_key_beta_19:
      return {0.1, 0.5, 0.1, 0.1, 0};
    case Regime::one_key_beta_2:
      return {0.2, 0.5, 0.5, 0.5, 0};
  }
  return {};
}

inline void report_rounded(Trial& t, const Delta& d, Regime regime) {
  const RoundedTolerances limits = rounded_tolerances(regime);
  const auto add = [&](const char* name, const Tensor& x, double limit) {
    // Whatever is not judged must still be finite.
    t.result(name, x, limit == 0 ? Tolerance{HUGE_VAL, HUGE_VAL} : Tolerance{limit, 20 * limit});
  };
  add("y", d.y, limits.y);
  add("final", d.final, limits.y);
  add("dq", d.grads.q, limits.dq);
  add("dk", d.grads.k, limits.dkv);
  add("dv", d.grads.v, limits.dkv);
  add("dbeta", d.grads.beta, limits.dbeta);
  add("dlog_decay", d.grads.log_decay, limits.dlog_decay);
  add("dinitial", d.dinitial, limits.dkv);
}

// Terms summed on the longest way into each result: a state entry is read over Dk, a gradient also over Dv,
// each through the tokens of a chunk; a decay's gradient sums over the whole state and over pairs of tokens.
// `factor` is for inputs whose conditioning multiplies the rounding errors.
inline void report(Trial& t, const Delta& d, double factor = 1, Regime regime = Regime::ordinary) {
  if (t.dtype == DType::bf16) return report_rounded(t, d, regime);
  const std::int64_t dk = d.in.k.shape[2], dv = d.in.v.shape[2], read = dk + ops::kDeltaChunk;
  const auto add = [&](const char* name, const Tensor& x, std::int64_t terms) {
    const Tolerance base = tolerance_for(DType::f32, terms);
    t.result(name, x, Tolerance{base.relative_rms * factor, base.worst * factor});
  };
  add("y", d.y, read);
  add("final", d.final, read);
  add("dq", d.grads.q, read + dv);
  add("dk", d.grads.k, read + dv);
  add("dv", d.grads.v, read + dv);
  add("dbeta", d.grads.beta, read + dv);
  add("dlog_decay", d.grads.log_decay, dk * dv + 32 * 32);
  add("dinitial", d.dinitial, read);
}

// Calls f(context, a second one, dtype): the cpu backend with two threads and with one, or the cuda backend.
inline void for_each_tested(const std::function<void(TestContext&, TestContext&, DType)>& f) {
  if (testing_cuda()) {
    for (const DType dtype : {DType::f32, DType::bf16}) f(cuda_context(), cuda_context(), dtype);
    return;
  }
  TestContext two = cpu_context(2), one = cpu_context(1);
  f(two, one, DType::f32);
}
inline TestTensors tensors_for(const TestContext& context, std::uint64_t seed, DType rounding) {
  return TestTensors(seed, rounding, Contents::real, context.backend().memory);
}
inline void expect_same_memory(TestTensors& tensors, const ConstTensor& got, const ConstTensor& want,
                               std::string_view what) {
  expect_same(tensors.on_host(got), tensors.on_host(want), what);
}

inline constexpr DeltaMethod kMethods[] = {DeltaMethod::automatic, DeltaMethod::chunked,
                                           DeltaMethod::recurrent};
inline constexpr const char* kMethodNames[] = {"automatic", "chunked", "recurrent"};

// Inputs of a run, replaced by others; they may lie where the host cannot write.
struct Changes {
  TestTensors& tensors;
  Delta& d;

  // Element i of token n of t (N, ...) becomes f(n, i, what t holds). f's values must be exact in bf16, or t
  // a gate.
  template <class F>
  void set(ConstTensor& t, F f) const {
    const ConstTensor now = tensors.on_host(t);
    if (now.data == nullptr) return;
    const std::int64_t width = t.shape[0] == 0 ? 1 : t.count() / t.shape[0];
    std::vector<double> values(static_cast<std::size_t>(t.count()));
    for (std::int64_t i = 0; i < t.count(); ++i) {
      values[static_cast<std::size_t>(i)] = f(i / width, i % width, now);
    }
    t = tensors.of(t.dtype, t.shape, values);
  }
  template <std::invocable<std::int64_t> F>
  void log_decay(F f) const {
    set(d.in.log_decay, [&](auto n, auto, const auto&) { return f(n); });
  }
  void log_decay(double g) const {
    log_decay([&](auto) { return g; });
  }
  template <std::invocable<std::int64_t> F>
  void beta(F f) const {
    set(d.in.beta, [&](auto n, auto, const auto&) { return f(n); });
  }
  void beta(double b) const {
    beta([&](auto) { return b; });
  }
  // Every element times a power of 2, or 0 for tokens that are not `kept`.
  template <class F>
  void scale(ConstTensor& t, double factor, F kept) const {
    set(t, [&](auto n, auto i, const auto& now) {
      return kept(n) ? factor * element(now, n * now.shape[1] * now.shape[2] + i) : 0.0;
    });
  }
  void scale(ConstTensor& t, double factor) const {
    scale(t, factor, [](auto) { return true; });
  }
  // Key of token n = key of token n % period, with a sign, plus `own` times its own.
  void repeat_keys(std::int64_t period, bool alternate, double own = 0) const {
    set(d.in.k, [&](auto n, auto i, const auto& now) {
      const std::int64_t width = now.shape[1] * now.shape[2];
      const double key = (alternate && n % 2 == 1 ? -1 : 1) * element(now, n % period * width + i);
      return own == 0 ? key : rounded_to_bf16(key + own * element(now, n * width + i));
    });
  }
  static double rounded_to_bf16(double x) { return static_cast<float>(BFloat16(static_cast<float>(x))); }
};

}  // namespace braid::test
