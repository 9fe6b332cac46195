#include "braid/ops/tally_step.h"

#include "braid/backends/reference/reference.h"
#include "braid/backends/reference/scalar.h"

namespace braid::reference {

void tally_step(Context&, Tensor tally, Tensor clip, ops::StepLosses losses, ConstTensor norm_and_scale,
                ConstTensor scale) {
  double* t = tally.as<double>();
  visit_float(clip.dtype, [&]<class T>() {
    T* to = clip.as<T>();
    to[0] = to[1] = static_cast<T>(std::nan(""));
    if (t[ops::kTallyFailedStep] != 0) return;
    const T *loss = losses.loss.as<T>(), *lse = losses.log_sum_exp.as<T>();
    double sum = 0, squares = 0;
    for (std::int64_t i = 0; i < losses.loss.count(); ++i) {
      sum += to_double(loss[i]);
      squares += to_double(lse[i]) * to_double(lse[i]);
    }
    const double norm = to_double(norm_and_scale.as<T>()[0]), mean = scale.as<double>()[0];
    t[ops::kTallyLoss] = sum * mean;
    t[ops::kTallyZLoss] = squares * mean;
    t[ops::kTallyGradientNorm] = norm;
    t[ops::kTallySteps] += 1;
    if (!std::isfinite(sum) || !std::isfinite(norm)) {
      t[ops::kTallyFailedStep] = t[ops::kTallySteps];
      return;
    }
    t[ops::kTallyLossSum] += t[ops::kTallyLoss];
    for (const int i : {0, 1}) to[i] = norm_and_scale.as<T>()[i];
  });
}

}  // namespace braid::reference
