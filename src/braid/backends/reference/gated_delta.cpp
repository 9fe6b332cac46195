#include "braid/ops/gated_delta.h"

#include <algorithm>
#include <vector>

#include "braid/backends/reference/reference.h"
#include "braid/backends/reference/scalar.h"

namespace braid::reference {
namespace {

using Vector = std::vector<double>;

double scale_of(const ops::GatedDeltaInputs& in, const ops::GatedDeltaOptions& options) {
  return options.scale != 0 ? options.scale : 1.0 / std::sqrt(static_cast<double>(in.k.shape[2]));
}

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

template <class T>
Vector load(const T* from, std::int64_t count) {
  return Vector(from, from + count);
}

template <class T>
void store(T* to, const Vector& from) {
  std::transform(from.begin(), from.end(), to, [](double x) { return static_cast<T>(x); });
}

// A vector of length 1 (or less, by epsilon), and the factor that made it so.
struct Normalised {
  Vector unit;
  double factor;

  explicit Normalised(Vector x) : unit(std::move(x)) {
    factor = 1.0 / std::sqrt(dot(unit, unit) + ops::kDeltaNormEpsilon);
    for (double& u : unit) u *= factor;
  }
  // Gradient of the raw vector from that of `unit`.
  Vector backward(Vector dunit) const {
    const double along = dot(unit, dunit);
    for (std::size_t i = 0; i < unit.size(); ++i) dunit[i] = factor * (dunit[i] - unit[i] * along);
    return dunit;
  }
};

// What the recurrence reads at token n in value head h.
struct Token {
  Normalised q, k;
  Vector v;
  double decay, beta;
};

template <class T>
Token token_at(const ops::GatedDeltaInputs& in, std::int64_t n, std::int64_t h) {
  const std::int64_t Hk = in.k.shape[1], Dk = in.k.shape[2], Hv = in.v.shape[1], Dv = in.v.shape[2];
  const std::int64_t key = (n * Hk + h / (Hv / Hk)) * Dk, value = n * Hv + h;
  return {.q = Normalised(load(in.q.as<T>() + key, Dk)),
          .k = Normalised(load(in.k.as<T>() + key, Dk)),
          .v = load(in.v.as<T>() + value * Dv, Dv),
          .decay = std::exp(to_double(in.log_decay.as<T>()[value])),
          .beta = to_double(in.beta.as<T>()[value])};
}

// The state S (Dk, Dv) of one head; also the gradient of one.
struct State {
  Vector s;

  // Sᵀ x
  Vector read(const Vector& x) const {
    const std::size_t Dv = s.size() / x.size();
    Vector y(Dv, 0.0);
    for (std::size_t i = 0; i < x.size(); ++i) {
      for (std::size_t j = 0; j < Dv; ++j) y[j] += s[i * Dv + j] * x[i];
    }
    return y;
  }
  // S x
  Vector apply(const Vector& x) const {
    Vector y(s.size() / x.size(), 0.0);
    for (std::size_t i = 0; i < y.size(); ++i) {
      for (std::size_t j = 0; j < x.size(); ++j) y[i] += s[i * x.size() + j] * x[j];
    }
    return y;
  }
  // S += a bᵀ
  void add_outer(const Vector& a, const Vector& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      for (std::size_t j = 0; j < b.size(); ++j) s[i * b.size() + j] += a[i] * b[j];
    }
  }
  void scale(double factor) {
    for (double& x : s) x *= factor;
  }
};

// v − p, what the decayed state does not yet predict.
Vector prediction_error(const State& decayed, const Token& t) {
  Vector error = decayed.read(t.k.unit);
  for (std::size_t j = 0; j < error.size(); ++j) error[j] = t.v[j] - error[j];
  return error;
}

Vector scaled(Vector x, double factor) {
  for (double& value : x) value *= factor;
  return x;
}

// S ← α S + k̂ δᵀ
void advance(State& state, const Token& t) {
  state.scale(t.decay);
  state.add_outer(t.k.unit, scaled(prediction_error(state, t), t.beta));
}

struct TokenGradient {
  Vector q, k, v;
  double log_decay, beta;
};

// One token in reverse. `dstate` is the gradient of the state after the token and becomes that of `before`;
// dread = scale · dy.
TokenGradient reverse(State& dstate, const State& before, const Token& t, const Vector& dread) {
  State decayed = before;
  decayed.scale(t.decay);
  const Vector error = prediction_error(decayed, t), delta = scaled(error, t.beta);
  State after = decayed;
  after.add_outer(t.k.unit, delta);

  const Vector dq = after.apply(dread);
  dstate.add_outer(t.q.unit, dread);
  const Vector ddelta = dstate.read(t.k.unit), dprediction = scaled(ddelta, -t.beta);
  Vector dk = dstate.apply(delta);
  const Vector dk_read = decayed.apply(dprediction);
  for (std::size_t i = 0; i < dk.size(); ++i) dk[i] += dk_read[i];
  dstate.add_outer(t.k.unit, dprediction);  // now the gradient of `decayed`
  const double dlog_decay = dot(dstate.s, decayed.s);
  dstate.scale(t.decay);
  return {.q = t.q.backward(dq),
          .k = t.k.backward(std::move(dk)),
          .v = scaled(ddelta, t.beta),
          .log_decay = dlog_decay,
          .beta = dot(ddelta, error)};
}

template <class T>
State initial_state(const ConstTensor& initial, std::int64_t slot, std::int64_t size) {
  if (!initial.defined()) return {Vector(static_cast<std::size_t>(size), 0.0)};
  return {load(initial.as<T>() + slot * size, size)};
}

// The backward pass. Gradients of q and k are summed over the value heads that share them.
template <class T>
struct Backward {
  const ops::GatedDeltaGradients& grads;
  const ConstTensor& dy;
  const ops::GatedDeltaInputs& in;
  double scale;
  Vector dq = Vector(static_cast<std::size_t>(in.q.count()), 0.0), dk = dq;

  void token(State& dstate, const State& before, std::int64_t n, std::int64_t h) {
    const std::int64_t Hk = in.k.shape[1], Hv = in.v.shape[1], Dv = in.v.shape[2], row = n * Hv + h;
    const auto g =
        reverse(dstate, before, token_at<T>(in, n, h), scaled(load(dy.as<T>() + row * Dv, Dv), scale));
    const auto key = static_cast<std::size_t>((n * Hk + h / (Hv / Hk)) * in.k.shape[2]);
    for (std::size_t d = 0; d < g.q.size(); ++d) {
      dq[key + d] += g.q[d];
      dk[key + d] += g.k[d];
    }
    store(grads.v.as<T>() + row * Dv, g.v);
    grads.log_decay.as<T>()[row] = static_cast<T>(g.log_decay);
    grads.beta.as<T>()[row] = static_cast<T>(g.beta);
  }

  // Head h of one segment that begins in `state`, which is kept at chunk starts and recomputed inside a
  // chunk.
  void segment(State& dstate, State state, Range range, std::int64_t h) {
    std::vector<State> starts;
    for (auto n = range.begin; n < range.end; ++n) {
      if ((n - range.begin) % ops::kDeltaChunk == 0) starts.push_back(state);
      advance(state, token_at<T>(in, n, h));
    }
    while (!starts.empty()) {
      const auto begin = range.begin + (static_cast<std::int64_t>(starts.size()) - 1) * ops::kDeltaChunk;
      const auto end = std::min(range.end, begin + ops::kDeltaChunk);
      std::vector<State> before{starts.back()};
      for (auto n = begin; n + 1 < end; ++n) {
        before.push_back(before.back());
        advance(before.back(), token_at<T>(in, n, h));
      }
      for (auto n = end - 1; n >= begin; --n)
        token(dstate, before[static_cast<std::size_t>(n - begin)], n, h);
      starts.pop_back();
    }
  }
};

}  // namespace

void gated_delta_forward(Context&, Tensor y, Tensor checkpoints, ops::GatedDeltaStates states,
                         ops::GatedDeltaInputs in, ops::Segments segments, ops::GatedDeltaOptions options) {
  const std::int64_t Hv = in.v.shape[1], Dv = in.v.shape[2], size = in.k.shape[2] * Dv;
  const double scale = scale_of(in, options);
  require_segments("gated_delta_forward", segments, in.q.shape[0]);
  visit_float(in.q.dtype, [&]<class T>() {
    for (std::int64_t s = 0; s < segments.count(); ++s) {
      const Range range = segment(segments, s);
      for (std::int64_t h = 0; h < Hv; ++h) {
        State state = initial_state<T>(states.initial, s * Hv + h, size);
        for (auto n = range.begin; n < range.end; ++n) {
          const auto into_segment = n - range.begin;
          if (checkpoints.defined() && into_segment % ops::kDeltaChunk == 0) {
            const auto slot = ops::delta_chunk_slot(s, range.begin) + into_segment / ops::kDeltaChunk;
            store(checkpoints.as<T>() + (slot * Hv + h) * size, state.s);
          }
          const Token t = token_at<T>(in, n, h);
          advance(state, t);
          store(y.as<T>() + (n * Hv + h) * Dv, scaled(state.read(t.q.unit), scale));
        }
        if (states.final.defined()) store(states.final.as<T>() + (s * Hv + h) * size, state.s);
      }
    }
  });
}

void gated_delta_backward(Context&, ops::GatedDeltaGradients grads, ops::GatedDeltaStateGradients state_grads,
                          ConstTensor dy, ops::GatedDeltaInputs in, ops::GatedDeltaSaved saved,
                          ops::Segments segments, ops::GatedDeltaOptions options) {
  const std::int64_t Hv = in.v.shape[1], size = in.k.shape[2] * in.v.shape[2];
  require_segments("gated_delta_backward", segments, in.q.shape[0]);
  visit_float(in.q.dtype, [&]<class T>() {
    Backward<T> backward{grads, dy, in, scale_of(in, options)};
    for (std::int64_t s = 0; s < segments.count(); ++s) {
      for (std::int64_t h = 0; h < Hv; ++h) {
        State dstate = initial_state<T>(state_grads.final, s * Hv + h, size);
        backward.segment(dstate, initial_state<T>(saved.initial, s * Hv + h, size), segment(segments, s), h);
        if (state_grads.initial.defined()) {
          store(state_grads.initial.as<T>() + (s * Hv + h) * size, dstate.s);
        }
      }
    }
    store(grads.q.as<T>(), backward.dq);
    store(grads.k.as<T>(), backward.dk);
  });
}

}  // namespace braid::reference
