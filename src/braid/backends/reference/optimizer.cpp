#include "braid/ops/optimizer.h"

#include "braid/backends/reference/reference.h"
#include "braid/backends/reference/scalar.h"

namespace braid::reference {

void gradient_norm(Context&, Tensor result, ConstTensor gradients, double max_norm) {
  visit_float(gradients.dtype, [&]<class T>() {
    const T* g = gradients.as<T>();
    double squares = 0;
    for (std::int64_t i = 0; i < gradients.count(); ++i) squares += to_double(g[i]) * to_double(g[i]);
    const double norm = std::sqrt(squares);
    // Also where it does not fit into the result.
    const bool finite = std::isfinite(static_cast<T>(norm));
    const double scale = !finite ? std::nan("") : max_norm > 0 && norm > max_norm ? max_norm / norm : 1.0;
    result.as<T>()[0] = static_cast<T>(finite ? norm : scale);
    result.as<T>()[1] = static_cast<T>(scale);
  });
}

// The order of operations is PyTorch's torch.optim.AdamW: decay, moments, corrected step.
void adamw(Context&, std::span<const ops::AdamWPart> parts, ConstTensor norm_and_scale, ConstTensor rates,
           ops::AdamWOptions options) {
  const double* rate = rates.as<double>();
  const double learning_rate = rate[0], correction1 = rate[1], correction2 = rate[2];
  for (const auto& part : parts) {
    visit_float(part.gradients.dtype, [&]<class T>() {
      const double scale = norm_and_scale.defined() ? to_double(norm_and_scale.as<T>()[1]) : 1.0;
      if (std::isnan(scale)) return;
      for (std::int64_t i = 0; i < part.gradients.count(); ++i) {
        T &p = part.parameters.as<T>()[i], &m = part.first_moment.as<T>()[i];
        T& v = part.second_moment.as<T>()[i];
        const double g = to_double(part.gradients.as<T>()[i]) * scale;
        const double decayed = to_double(p) * (1 - learning_rate * part.weight_decay);
        const double first = options.beta1 * to_double(m) + (1 - options.beta1) * g;
        const double second = options.beta2 * to_double(v) + (1 - options.beta2) * g * g;
        const double denominator = std::sqrt(second) / std::sqrt(correction2) + options.epsilon;
        p = static_cast<T>(decayed - learning_rate / correction1 * first / denominator);
        m = static_cast<T>(first);
        v = static_cast<T>(second);
        if (part.copy.defined()) part.copy.as<BFloat16>()[i] = BFloat16(static_cast<float>(p));
      }
    });
  }
}

}  // namespace braid::reference
