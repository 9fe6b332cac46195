#include "braid/backends/cpu/kernels.h"
#include "braid/backends/cpu/parallel.h"
#include "braid/backends/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/backends/cpu/swiglu.cpp"
#include <hwy/foreach_target.h>

#include "braid/backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

constexpr std::int64_t kRows = 8;  // per task

void swiglu_forward(Context& ctx, Tensor y, ConstTensor gate_up) {
  const std::int64_t F = y.shape[1];
  const float* in = gate_up.as<float>();
  float* out = y.as<float>();
  const Destination to = destination_of(y, F);
  parallel_blocks(ctx, y.shape[0], kRows, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t n = begin; n < end; ++n) {
      const float *gate = in + 2 * n * F, *up = gate + F;
      for_vectors(F, [&](std::int64_t f, auto io) HWY_ATTR {
        const VecF g = io.load(gate + f);
        io.store(out + n * F + f, hn::Mul(hn::Mul(g, sigmoid(g)), io.load(up + f)), to);
      });
    }
    flush_stores(to);
  });
}

void swiglu_backward(Context& ctx, Tensor dgate_up, ConstTensor dy, ConstTensor gate_up) {
  const std::int64_t F = dy.shape[1];
  const float *in = gate_up.as<float>(), *pdy = dy.as<float>();
  float* out = dgate_up.as<float>();
  const Destination to = destination_of(dgate_up, F);
  parallel_blocks(ctx, dy.shape[0], kRows, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t n = begin; n < end; ++n) {
      const std::int64_t gate = 2 * n * F, up = gate + F;
      for_vectors(F, [&](std::int64_t f, auto io) HWY_ATTR {
        const VecF g = io.load(in + gate + f), u = io.load(in + up + f), d = io.load(pdy + n * F + f);
        const VecF s = sigmoid(g), silu = hn::Mul(g, s);
        const VecF slope = hn::MulAdd(silu, hn::Sub(set(1.0f), s), s);
        io.store(out + gate + f, hn::Mul(hn::Mul(d, u), slope), to);
        io.store(out + up + f, hn::Mul(d, silu), to);
      });
    }
    flush_stores(to);
  });
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid::cpu {

HWY_EXPORT(swiglu_forward);
void swiglu_forward(Context& ctx, Tensor y, ConstTensor gate_up) {
  require_f32("swiglu_forward", {y});
  HWY_DYNAMIC_DISPATCH(swiglu_forward)(ctx, y, gate_up);
}

HWY_EXPORT(swiglu_backward);
void swiglu_backward(Context& ctx, Tensor dgate_up, ConstTensor dy, ConstTensor gate_up) {
  require_f32("swiglu_backward", {dy});
  HWY_DYNAMIC_DISPATCH(swiglu_backward)(ctx, dgate_up, dy, gate_up);
}

}  // namespace braid::cpu
#endif
