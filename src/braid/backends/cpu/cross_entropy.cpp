#include <cmath>

#include "braid/backends/cpu/kernels.h"
#include "braid/backends/cpu/parallel.h"
#include "braid/backends/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/backends/cpu/cross_entropy.cpp"
#include <hwy/foreach_target.h>

#include "braid/backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

constexpr std::int64_t kRun = 4096;  // logits summed in f32 before f64 takes over

HWY_INLINE float largest(const float* row, std::int64_t V) {
  VecF top = set(row[0]);
  for_vectors(V, [&](std::int64_t v, auto io) HWY_ATTR {
    // Lanes beyond the row take the first logit, which is in it.
    top = hn::Max(top, io.choose(io.load(row + v), set(row[0])));
  });
  return max_lanes(top);
}

// Σ e^(row − top); with Keep the exponentials replace the logits.
template <bool Keep>
HWY_INLINE double sum_of_exponentials(float* row, std::int64_t V, float top) {
  double total = 0;
  for (std::int64_t begin = 0; begin < V; begin += kRun) {
    VecF sum = zero();
    for_vectors(std::min(kRun, V - begin), [&](std::int64_t i, auto io) HWY_ATTR {
      const VecF e = exp(hn::Sub(io.load(row + begin + i), set(top)));
      sum = hn::Add(sum, io.keep(e));
      if constexpr (Keep) io.store(row + begin + i, e);
    });
    total += static_cast<double>(sum_lanes(sum));
  }
  return total;
}

void cross_entropy(Context& ctx, Tensor loss, Tensor log_sum_exp, Tensor logits, ConstTensor targets,
                   ConstTensor weights, ops::CrossEntropyOptions options) {
  const std::int64_t V = logits.shape[1];
  const std::int32_t* target = targets.as<std::int32_t>();
  float *ploss = loss.as<float>(), *plse = log_sum_exp.as<float>(), *x = logits.as<float>();
  const float* weight = weights.defined() ? weights.as<float>() : nullptr;
  const bool gradient = options.gradient == ops::LossGradient::yes;
  const double common = options.scale.defined() ? options.scale.as<double>()[0] : 1.0;
  parallel_for(ctx, logits.shape[0], [&](std::int64_t n) HWY_ATTR {
    float* row = x + n * V;
    if (target[n] < 0) {
      ploss[n] = plse[n] = 0.0f;
      if (gradient) std::fill(row, row + V, 0.0f);
      return;
    }
    const float top = largest(row, V), at_target = row[target[n]];
    const double sum =
        gradient ? sum_of_exponentials<true>(row, V, top) : sum_of_exponentials<false>(row, V, top);
    const double lse = static_cast<double>(top) + std::log(sum);
    plse[n] = static_cast<float>(lse);
    ploss[n] = static_cast<float>(lse - static_cast<double>(at_target));
    if (!gradient) return;
    const double scale = weight == nullptr ? common : common * static_cast<double>(weight[n]);
    const VecF factor = set(static_cast<float>(scale * (1 + 2 * options.z_loss * lse) / sum));
    for_vectors(
        V, [&](std::int64_t v, auto io) HWY_ATTR { io.store(row + v, hn::Mul(io.load(row + v), factor)); });
    row[target[n]] -= static_cast<float>(scale);
  });
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid::cpu {

HWY_EXPORT(cross_entropy);
void cross_entropy(Context& ctx, Tensor loss, Tensor log_sum_exp, Tensor logits, ConstTensor targets,
                   ConstTensor weights, ops::CrossEntropyOptions options) {
  require_f32("cross_entropy", {logits});
  const std::int64_t V = logits.shape[1];
  for (std::int64_t n = 0; n < targets.count(); ++n) {
    const std::int32_t target = targets.as<std::int32_t>()[n];
    require(target < V, "cross_entropy: targets[{}] is {}, expected less than {}", n, target, V);
  }
  HWY_DYNAMIC_DISPATCH(cross_entropy)(ctx, loss, log_sum_exp, logits, targets, weights, options);
}

}  // namespace braid::cpu
#endif
