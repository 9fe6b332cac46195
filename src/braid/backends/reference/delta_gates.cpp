#include "braid/ops/delta_gates.h"

#include <vector>

#include "braid/backends/reference/reference.h"
#include "braid/backends/reference/scalar.h"

namespace braid::reference {

void delta_gates_forward(Context&, Tensor log_decay, Tensor beta, ops::DeltaGateInputs in,
                         ops::DeltaGateOptions options) {
  const std::int64_t N = log_decay.shape[0], H = log_decay.shape[1];
  visit_float(in.ab.dtype, [&]<class T>() {
    for (std::int64_t n = 0; n < N; ++n) {
      const T* ab = in.ab.as<T>() + n * 2 * H;
      for (std::int64_t h = 0; h < H; ++h) {
        const double rate = std::exp(to_double(in.a_log.as<T>()[h]));
        const double step = softplus(to_double(ab[h]) + to_double(in.dt_bias.as<T>()[h]));
        log_decay.as<T>()[n * H + h] = static_cast<T>(-rate * step);
        beta.as<T>()[n * H + h] = static_cast<T>(options.beta_scale * sigmoid(to_double(ab[H + h])));
      }
    }
  });
}

void delta_gates_backward(Context&, ops::DeltaGateGradients grads, ConstTensor dlog_decay, ConstTensor dbeta,
                          ops::DeltaGateInputs in, ops::DeltaGateOptions options) {
  const std::int64_t N = dlog_decay.shape[0], H = dlog_decay.shape[1];
  visit_float(in.ab.dtype, [&]<class T>() {
    for (std::int64_t h = 0; h < H; ++h) {
      const double rate = std::exp(to_double(in.a_log.as<T>()[h]));
      double da_log = to_double(grads.a_log.as<T>()[h]), ddt_bias = to_double(grads.dt_bias.as<T>()[h]);
      for (std::int64_t n = 0; n < N; ++n) {
        const T* ab = in.ab.as<T>() + n * 2 * H;
        T* dab = grads.ab.as<T>() + n * 2 * H;
        const double z = to_double(ab[h]) + to_double(in.dt_bias.as<T>()[h]);
        const double dg = to_double(dlog_decay.as<T>()[n * H + h]);
        const double dz = -dg * rate * sigmoid(z);  // softplus' = sigmoid
        const double s = sigmoid(to_double(ab[H + h]));
        dab[h] = static_cast<T>(dz);
        dab[H + h] = static_cast<T>(to_double(dbeta.as<T>()[n * H + h]) * options.beta_scale * s * (1 - s));
        da_log -= dg * rate * softplus(z);
        ddt_bias += dz;
      }
      grads.a_log.as<T>()[h] = static_cast<T>(da_log);
      grads.dt_bias.as<T>()[h] = static_cast<T>(ddt_bias);
    }
  });
}

}  // namespace braid::reference
