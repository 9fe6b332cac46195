#include "braid/ops/swiglu.h"

#include "braid/backends/reference/reference.h"
#include "braid/backends/reference/scalar.h"

namespace braid::reference {

void swiglu_forward(Context&, Tensor y, ConstTensor gate_up) {
  const std::int64_t N = y.shape[0], F = y.shape[1];
  visit_float(y.dtype, [&]<class T>() {
    for (std::int64_t n = 0; n < N; ++n) {
      const T* gate = gate_up.as<T>() + n * 2 * F;
      for (std::int64_t f = 0; f < F; ++f) {
        y.as<T>()[n * F + f] = static_cast<T>(silu(to_double(gate[f])) * to_double(gate[F + f]));
      }
    }
  });
}

void swiglu_backward(Context&, Tensor dgate_up, ConstTensor dy, ConstTensor gate_up) {
  const std::int64_t N = dy.shape[0], F = dy.shape[1];
  visit_float(dy.dtype, [&]<class T>() {
    for (std::int64_t n = 0; n < N; ++n) {
      const T* in = gate_up.as<T>() + n * 2 * F;
      T* out = dgate_up.as<T>() + n * 2 * F;
      for (std::int64_t f = 0; f < F; ++f) {
        const double gate = to_double(in[f]), up = to_double(in[F + f]);
        const double d = to_double(dy.as<T>()[n * F + f]);
        out[f] = static_cast<T>(d * up * silu_derivative(gate));
        out[F + f] = static_cast<T>(d * silu(gate));
      }
    }
  });
}

}  // namespace braid::reference
