#include "braid/ops/short_convolution.h"

#include <vector>

#include "braid/backends/reference/reference.h"
#include "braid/backends/reference/scalar.h"

namespace braid::reference {
namespace {

// Channel c of [q | k | v]: which tensor, and which column of it. Q is QkvOutputs or QkvInputs.
template <class T, class Q>
auto& at(const Q& qkv, std::int64_t n, std::int64_t c) {
  const std::int64_t Cq = qkv.q.shape[1], Ck = qkv.k.shape[1], Cv = qkv.v.shape[1];
  if (c < Cq) return qkv.q.template as<T>()[n * Cq + c];
  if (c < Cq + Ck) return qkv.k.template as<T>()[n * Ck + c - Cq];
  return qkv.v.template as<T>()[n * Cv + c - Cq - Ck];
}

// Input of channel c at token n, which may lie before the segment's begin: there it is the state (W − 1, C)
// of the segment, or zero without one.
template <class T>
double input(const T* x, const T* state, std::int64_t n, std::int64_t c, Range range, std::int64_t C,
             std::int64_t W) {
  if (n >= range.begin) return to_double(x[n * C + c]);
  return state != nullptr ? to_double(state[(W - 1 + n - range.begin) * C + c]) : 0.0;
}

template <class T>
double convolve(const T* x, const T* state, const T* taps, std::int64_t n, std::int64_t c, Range range,
                std::int64_t C, std::int64_t W) {
  double sum = 0;
  for (std::int64_t w = 0; w < W; ++w) {
    sum += to_double(taps[w]) * input(x, state, n - (W - 1) + w, c, range, C, W);
  }
  return sum;
}

}  // namespace

void short_convolution_forward(Context&, ops::QkvOutputs y, Tensor state, ConstTensor x, ConstTensor weight,
                               ops::Segments segments) {
  const std::int64_t C = x.shape[1], W = weight.shape[1];
  require_segments("short_convolution_forward", segments, x.shape[0]);
  visit_float(x.dtype, [&]<class T>() {
    const T* X = x.as<T>();
    for (std::int64_t s = 0; s < segments.count(); ++s) {
      const Range range = segment(segments, s);
      T* before = state.defined() ? state.as<T>() + s * (W - 1) * C : nullptr;
      for (std::int64_t c = 0; c < C; ++c) {
        for (std::int64_t n = range.begin; n < range.end; ++n) {
          const double sum = convolve<T>(X, before, weight.as<T>() + c * W, n, c, range, C, W);
          at<T>(y, n, c) = static_cast<T>(silu(sum));
        }
      }
      // The last W - 1 of (old state, segment); ascending, so an old entry moves before it is overwritten.
      for (std::int64_t i = 0; before != nullptr && i < W - 1; ++i) {
        for (std::int64_t c = 0; c < C; ++c) {
          const auto n = range.end - (W - 1) + i;
          before[i * C + c] = static_cast<T>(input<T>(X, before, n, c, range, C, W));
        }
      }
    }
  });
}

void short_convolution_backward(Context&, Tensor dx, Tensor dweight, ops::QkvInputs dqkv, ConstTensor x,
                                ConstTensor weight, ops::Segments segments) {
  const std::int64_t C = x.shape[1], W = weight.shape[1];
  require_segments("short_convolution_backward", segments, x.shape[0]);
  visit_float(x.dtype, [&]<class T>() {
    const T* X = x.as<T>();
    const T* no_state = nullptr;
    for (std::int64_t c = 0; c < C; ++c) {
      const T* taps = weight.as<T>() + c * W;
      std::vector<double> dinput(static_cast<std::size_t>(x.shape[0]), 0.0);
      std::vector<double> dtaps(static_cast<std::size_t>(W), 0.0);
      for (std::int64_t s = 0; s < segments.count(); ++s) {
        const Range range = segment(segments, s);
        for (std::int64_t n = range.begin; n < range.end; ++n) {
          const double sum = convolve(X, no_state, taps, n, c, range, C, W);
          const double dsum = to_double(at<T>(dqkv, n, c)) * silu_derivative(sum);
          for (std::int64_t w = 0; w < W; ++w) {
            const std::int64_t from = n - (W - 1) + w;
            if (from < range.begin) continue;
            dinput[static_cast<std::size_t>(from)] += dsum * to_double(taps[w]);
            dtaps[static_cast<std::size_t>(w)] += dsum * to_double(X[from * C + c]);
          }
        }
      }
      for (std::int64_t n = 0; n < x.shape[0]; ++n) {
        dx.as<T>()[n * C + c] = static_cast<T>(dinput[static_cast<std::size_t>(n)]);
      }
      for (std::int64_t w = 0; w < W; ++w) {
        T& out = dweight.as<T>()[c * W + w];
        out = static_cast<T>(to_double(out) + dtaps[static_cast<std::size_t>(w)]);
      }
    }
  });
}

}  // namespace braid::reference
