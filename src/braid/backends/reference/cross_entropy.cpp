#include "braid/ops/cross_entropy.h"

#include <algorithm>

#include "braid/backends/reference/reference.h"
#include "braid/backends/reference/scalar.h"

namespace braid::reference {
namespace {

template <class T>
double log_sum_exp_of(const T* logits, std::int64_t V) {
  const double top = to_double(*std::max_element(logits, logits + V));
  double sum = 0;
  for (std::int64_t v = 0; v < V; ++v) sum += std::exp(to_double(logits[v]) - top);
  return top + std::log(sum);
}

}  // namespace

void cross_entropy(Context&, Tensor loss, Tensor log_sum_exp, Tensor logits, ConstTensor targets,
                   ConstTensor weights, ops::CrossEntropyOptions options) {
  const std::int64_t N = logits.shape[0], V = logits.shape[1];
  const bool gradient = options.gradient == ops::LossGradient::yes;
  const double scale = options.scale.defined() ? options.scale.as<double>()[0] : 1.0;
  visit_float(logits.dtype, [&]<class T>() {
    for (std::int64_t n = 0; n < N; ++n) {
      T* row = logits.as<T>() + n * V;
      const std::int64_t target = targets.as<std::int32_t>()[n];
      require(target < V, "cross_entropy: targets[{}] is {}, expected less than {}", n, target, V);
      const bool ignored = target < 0;
      const double lse = ignored ? 0.0 : log_sum_exp_of(row, V);
      log_sum_exp.as<T>()[n] = static_cast<T>(lse);
      loss.as<T>()[n] = static_cast<T>(ignored ? 0.0 : lse - to_double(row[target]));
      if (!gradient) continue;
      const double weight = weights.defined() ? static_cast<double>(weights.as<float>()[n]) : 1.0;
      for (std::int64_t v = 0; v < V; ++v) {
        const double p = ignored ? 0.0 : std::exp(to_double(row[v]) - lse);
        const double dlogit = p * (1 + 2 * options.z_loss * lse) - (v == target ? 1.0 : 0.0);
        row[v] = static_cast<T>(scale * weight * dlogit);
      }
    }
  });
}

}  // namespace braid::reference
