#include <cmath>

#include "braid/backends/cpu/kernels.h"
#include "braid/backends/cpu/parallel.h"
#include "braid/backends/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/backends/cpu/rotary.cpp"
#include <hwy/foreach_target.h>

#include "braid/backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

constexpr std::int64_t kTokens = 16;  // per task

void rotary(Context& ctx, Tensor y, ConstTensor x, ops::RotaryTable table, ConstTensor positions,
            ops::Rotation rotation) {
  const std::int64_t H = x.shape[1], D = x.shape[2], half = D / 2;
  const float *px = x.as<float>(), *pcos = table.cos.as<float>(), *psin = table.sin.as<float>();
  const std::int32_t* position = positions.as<std::int32_t>();
  float* py = y.as<float>();
  const VecF direction = set(rotation == ops::Rotation::forward ? 1.0f : -1.0f);
  parallel_blocks(ctx, x.shape[0], kTokens, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t n = begin; n < end; ++n) {
      const float *cos = pcos + position[n] * half, *sin = psin + position[n] * half;
      for (std::int64_t i = n * H * D; i < (n + 1) * H * D; i += D) {
        for_vectors(half, [&](std::int64_t j, auto io) HWY_ATTR {
          const VecF c = io.load(cos + j), s = hn::Mul(io.load(sin + j), direction);
          const VecF a = io.load(px + i + j), b = io.load(px + i + half + j);
          io.store(py + i + j, hn::NegMulAdd(b, s, hn::Mul(a, c)));
          io.store(py + i + half + j, hn::MulAdd(a, s, hn::Mul(b, c)));
        });
      }
    }
  });
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid::cpu {

void rotary_table(Context& ctx, Tensor cos, Tensor sin, std::span<const double> inverse_frequencies,
                  double factor) {
  require_f32("rotary_table", {cos});
  const std::int64_t half = cos.shape[1];
  float *pcos = cos.as<float>(), *psin = sin.as<float>();
  parallel_blocks(ctx, cos.shape[0], 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * half; i < end * half; ++i) {
      const double angle =
          static_cast<double>(i / half) * inverse_frequencies[static_cast<std::size_t>(i % half)];
      pcos[i] = static_cast<float>(factor * std::cos(angle));
      psin[i] = static_cast<float>(factor * std::sin(angle));
    }
  });
}

HWY_EXPORT(rotary);
void rotary(Context& ctx, Tensor y, ConstTensor x, ops::RotaryTable table, ConstTensor positions,
            ops::Rotation rotation) {
  require_f32("rotary", {x});
  const std::int64_t P = table.cos.shape[0];
  for (std::int64_t n = 0; n < positions.count(); ++n) {
    const std::int32_t p = positions.as<std::int32_t>()[n];
    require(p >= 0 && p < P, "rotary: positions[{}] is {}, expected [0, {})", n, p, P);
  }
  HWY_DYNAMIC_DISPATCH(rotary)(ctx, y, x, table, positions, rotation);
}

}  // namespace braid::cpu
#endif
