#include <cmath>

#include "braid/backends/cpu/kernels.h"
#include "braid/backends/cpu/parallel.h"
#include "braid/backends/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/backends/cpu/optimizer.cpp"
#include <hwy/foreach_target.h>

#include "braid/backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

// sums[i] = Σ g² over block i.
void sum_squares(Context& ctx, Tensor sums, ConstTensor gradients, std::int64_t block) {
  const float* g = gradients.as<float>();
  double* out = sums.as<double>();
  parallel_blocks(ctx, gradients.count(), block, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    const hn::ScalableTag<double> wide;
    const hn::Rebind<float, decltype(wide)> narrow;
    const auto step = static_cast<std::int64_t>(hn::Lanes(wide));
    auto sum = hn::Zero(wide);
    std::int64_t i = begin;
    for (; i + step <= end; i += step) {
      const auto v = hn::PromoteTo(wide, hn::LoadU(narrow, g + i));
      sum = hn::MulAdd(v, v, sum);
    }
    double total = hn::GetLane(hn::SumOfLanes(wide, sum));
    for (; i < end; ++i) total += static_cast<double>(g[i]) * static_cast<double>(g[i]);
    out[begin / block] = total;
  });
}

// Moments that have decayed below this become zero: subnormal arithmetic is slow and the step they would
// give is nothing beside epsilon.
constexpr float kNoMoment = 1e-36f;
HWY_INLINE VecF flush(VecF x) { return hn::IfThenZeroElse(hn::Lt(hn::Abs(x), set(kNoMoment)), x); }

void adamw(Context& ctx, const ops::AdamWPart& part, float gradient_scale, const ops::AdamWRates& rates,
           ops::AdamWOptions options) {
  const float* pg = part.gradients.as<float>();
  float *pp = part.parameters.as<float>(), *pm = part.first_moment.as<float>();
  float* pv = part.second_moment.as<float>();
  const auto constant = [](double x) HWY_ATTR { return set(static_cast<float>(x)); };
  const VecF decay = constant(1 - rates.learning_rate * part.weight_decay);
  const VecF rate = constant(rates.learning_rate / rates.correction1);
  const VecF correction = constant(1 / std::sqrt(rates.correction2));
  const VecF beta1 = constant(options.beta1), rest1 = constant(1 - options.beta1);
  const VecF beta2 = constant(options.beta2), rest2 = constant(1 - options.beta2);
  const VecF epsilon = constant(options.epsilon), scale = set(gradient_scale);
  constexpr std::int64_t kBlock = 16384;  // elements per task
  parallel_blocks(ctx, part.gradients.count(), kBlock, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for_vectors(end - begin, [&](std::int64_t offset, auto io) HWY_ATTR {
      const std::int64_t i = begin + offset;
      const VecF g = hn::Mul(io.load(pg + i), scale);
      const VecF m = flush(hn::MulAdd(beta1, io.load(pm + i), hn::Mul(rest1, g)));
      const VecF v = flush(hn::MulAdd(beta2, io.load(pv + i), hn::Mul(rest2, hn::Mul(g, g))));
      const VecF change = hn::Div(hn::Mul(rate, m), hn::MulAdd(hn::Sqrt(v), correction, epsilon));
      io.store(pp + i, hn::MulSub(io.load(pp + i), decay, change));
      io.store(pm + i, m);
      io.store(pv + i, v);
    });
  });
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid::cpu {

namespace {

constexpr std::int64_t kNormBlock = 16384;  // elements per partial sum

Tensor make_gradient_norm_scratch(Context& ctx, const ConstTensor& gradients) {
  return ctx.scratch->make(DType::f64, {(gradients.count() + kNormBlock - 1) / kNormBlock});
}

}  // namespace

HWY_EXPORT(sum_squares);
void gradient_norm(Context& ctx, Tensor result, ConstTensor gradients, double max_norm) {
  require_f32("gradient_norm", {gradients});
  const Arena::Scope scope(*ctx.scratch);
  const Tensor sums = make_gradient_norm_scratch(ctx, gradients);
  HWY_DYNAMIC_DISPATCH(sum_squares)(ctx, sums, gradients, kNormBlock);
  double squares = 0;
  for (std::int64_t i = 0; i < sums.count(); ++i) squares += sums.as<double>()[i];
  const double norm = std::sqrt(squares);
  // Also where it does not fit into the result.
  const bool finite = std::isfinite(static_cast<float>(norm));
  const double scale = !finite ? std::nan("") : max_norm > 0 && norm > max_norm ? max_norm / norm : 1.0;
  result.as<float>()[0] = static_cast<float>(finite ? norm : scale);
  result.as<float>()[1] = static_cast<float>(scale);
}

void scratch::gradient_norm(Context& ctx, Tensor, ConstTensor gradients, double) {
  const Arena::Scope scope(*ctx.scratch);
  make_gradient_norm_scratch(ctx, gradients);
}

HWY_EXPORT(adamw);
void adamw(Context& ctx, std::span<const ops::AdamWPart> parts, ConstTensor norm_and_scale, ConstTensor rates,
           ops::AdamWOptions options) {
  const float scale = norm_and_scale.defined() ? norm_and_scale.as<float>()[1] : 1.0f;
  if (std::isnan(scale)) return;
  const double* rate = rates.as<double>();
  for (const auto& part : parts) {
    require_f32("adamw", {part.gradients});
    HWY_DYNAMIC_DISPATCH(adamw)(ctx, part, scale, {rate[0], rate[1], rate[2]}, options);
    if (part.copy.defined()) copy(ctx, part.copy, part.parameters);
  }
}

}  // namespace braid::cpu
#endif
