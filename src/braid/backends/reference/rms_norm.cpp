#include "braid/ops/rms_norm.h"

#include <vector>

#include "braid/backends/reference/reference.h"
#include "braid/backends/reference/scalar.h"

namespace braid::reference {
namespace {

// Row r of y = addend + x · inverse_rms · weight · gate_factor(i), i the element's flat index.
template <class T, class GateFactor>
void normalise(Tensor y, Tensor inverse_rms, ConstTensor x, ConstTensor weight,
               const ops::RmsNormOptions& options, GateFactor gate_factor) {
  const std::int64_t N = x.shape[0], C = x.shape[1];
  const T* X = x.as<T>();
  const T* addend = options.addend.defined() ? options.addend.as<T>() : nullptr;
  for (std::int64_t n = 0; n < N; ++n) {
    double squares = 0;
    for (std::int64_t i = n * C; i < (n + 1) * C; ++i) squares += to_double(X[i]) * to_double(X[i]);
    const double r = 1.0 / std::sqrt(squares / static_cast<double>(C) + options.epsilon);
    inverse_rms.as<T>()[n] = static_cast<T>(r);
    for (std::int64_t c = 0; c < C; ++c) {
      const auto i = n * C + c;
      const double before = addend != nullptr ? to_double(addend[i]) : 0.0;
      y.as<T>()[i] =
          static_cast<T>(before + to_double(X[i]) * r * to_double(weight.as<T>()[c]) * gate_factor(i));
    }
  }
}

// dx of one row, given dn = d/d(x · r): dx = r (dn − x r² mean(dn · x)).
template <class T>
std::vector<double> row_gradient(const T* x, const std::vector<double>& dn, double r) {
  double dot = 0;
  for (std::size_t c = 0; c < dn.size(); ++c) dot += dn[c] * to_double(x[c]);
  const double mean = dot / static_cast<double>(dn.size());
  std::vector<double> dx(dn.size());
  for (std::size_t c = 0; c < dn.size(); ++c) dx[c] = r * (dn[c] - to_double(x[c]) * r * r * mean);
  return dx;
}

}  // namespace

void rms_norm_forward(Context&, Tensor y, Tensor inverse_rms, ConstTensor x, ConstTensor weight,
                      ops::RmsNormOptions options) {
  visit_float(x.dtype, [&]<class T>() {
    normalise<T>(y, inverse_rms, x, weight, options, [](std::int64_t) { return 1.0; });
  });
}

void rms_norm_backward(Context&, Tensor dx, Tensor dweight, ConstTensor dy, ops::RmsNormInputs in,
                       ops::Accumulate dx_mode) {
  const std::int64_t N = in.x.shape[0], C = in.x.shape[1];
  visit_float(in.x.dtype, [&]<class T>() {
    T* dw = dweight.as<T>();
    std::vector<double> dweight_sum(dw, dw + C), dn(static_cast<std::size_t>(C));
    for (std::int64_t n = 0; n < N; ++n) {
      const T* x = in.x.as<T>() + n * C;
      const double r = to_double(in.inverse_rms.as<T>()[n]);
      for (std::size_t c = 0; c < dn.size(); ++c) {
        const double d = to_double(dy.as<T>()[n * C + static_cast<std::int64_t>(c)]);
        dn[c] = d * to_double(in.weight.as<T>()[c]);
        dweight_sum[c] += d * to_double(x[c]) * r;
      }
      const auto row = row_gradient(x, dn, r);
      for (std::size_t c = 0; c < dn.size(); ++c) {
        T& out = dx.as<T>()[n * C + static_cast<std::int64_t>(c)];
        out = static_cast<T>(row[c] + (dx_mode == ops::Accumulate::yes ? to_double(out) : 0.0));
      }
    }
    for (std::size_t c = 0; c < dn.size(); ++c) dw[c] = static_cast<T>(dweight_sum[c]);
  });
}

void gated_rms_norm_forward(Context&, Tensor y, Tensor inverse_rms, ConstTensor x, ConstTensor gate,
                            ConstTensor weight, ops::RmsNormOptions options) {
  visit_float(x.dtype, [&]<class T>() {
    normalise<T>(y, inverse_rms, x, weight, options,
                 [&](std::int64_t i) { return silu(to_double(gate.as<T>()[i])); });
  });
}

void gated_rms_norm_backward(Context&, Tensor dx, Tensor dgate, Tensor dweight, ConstTensor dy,
                             ConstTensor gate, ops::RmsNormInputs in) {
  const std::int64_t N = in.x.shape[0], C = in.x.shape[1];
  visit_float(in.x.dtype, [&]<class T>() {
    T* dw = dweight.as<T>();
    std::vector<double> dweight_sum(dw, dw + C), dn(static_cast<std::size_t>(C));
    for (std::int64_t n = 0; n < N; ++n) {
      const T* x = in.x.as<T>() + n * C;
      const double r = to_double(in.inverse_rms.as<T>()[n]);
      for (std::size_t c = 0; c < dn.size(); ++c) {
        const auto i = n * C + static_cast<std::int64_t>(c);
        const double d = to_double(dy.as<T>()[i]), g = to_double(gate.as<T>()[i]);
        const double w = to_double(in.weight.as<T>()[c]), normalised = to_double(x[c]) * r;
        dn[c] = d * w * silu(g);
        dweight_sum[c] += d * normalised * silu(g);
        dgate.as<T>()[i] = static_cast<T>(d * normalised * w * silu_derivative(g));
      }
      const auto row = row_gradient(x, dn, r);
      for (std::size_t c = 0; c < dn.size(); ++c) {
        dx.as<T>()[n * C + static_cast<std::int64_t>(c)] = static_cast<T>(row[c]);
      }
    }
    for (std::size_t c = 0; c < dn.size(); ++c) dw[c] = static_cast<T>(dweight_sum[c]);
  });
}

}  // namespace braid::reference
