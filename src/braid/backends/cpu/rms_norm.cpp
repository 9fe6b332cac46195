#include <cmath>

#include "braid/backends/cpu/kernels.h"
#include "braid/backends/cpu/partial_sums.h"
#include "braid/backends/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/backends/cpu/rms_norm.cpp"
#include <hwy/foreach_target.h>

#include "braid/backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

constexpr std::int64_t kRows = 16;  // per task

HWY_INLINE float inverse_rms_of(const float* x, std::int64_t C, double epsilon) {
  VecF sum = zero();
  for_vectors(C, [&](std::int64_t c, auto io) HWY_ATTR {
    const VecF v = io.load(x + c);
    sum = hn::MulAdd(v, v, sum);
  });
  return static_cast<float>(
      1.0 / std::sqrt(static_cast<double>(sum_lanes(sum)) / static_cast<double>(C) + epsilon));
}

void rms_norm_forward(Context& ctx, Tensor y, Tensor inverse_rms, ConstTensor x, ConstTensor weight,
                      ops::RmsNormOptions options) {
  const std::int64_t C = x.shape[1];
  const float *px = x.as<float>(), *w = weight.as<float>();
  float *py = y.as<float>(), *r = inverse_rms.as<float>();
  const float* addend = options.addend.defined() ? options.addend.as<float>() : nullptr;
  const Destination to = destination_of(y, C);
  parallel_blocks(ctx, x.shape[0], kRows, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t n = begin; n < end; ++n) {
      const float* row = px + n * C;
      r[n] = inverse_rms_of(row, C, options.epsilon);
      const VecF scale = set(r[n]);
      for_vectors(C, [&](std::int64_t c, auto io) HWY_ATTR {
        const VecF before = addend != nullptr ? io.load(addend + n * C + c) : zero();
        io.store(py + n * C + c, hn::MulAdd(hn::Mul(io.load(row + c), scale), io.load(w + c), before), to);
      });
    }
    flush_stores(to);
  });
}

// With x̂ = x r: dx = r (w dy − x̂ mean(w dy x̂)), dweight = Σ dy x̂.
void rms_norm_backward(Context& ctx, Tensor dx, Tensor sums, ConstTensor dy, ops::RmsNormInputs in,
                       ops::Accumulate mode) {
  const std::int64_t N = dx.shape[0], C = dx.shape[1];
  const float *x = in.x.as<float>(), *w = in.weight.as<float>(), *r = in.inverse_rms.as<float>();
  const float* pdy = dy.as<float>();
  float* pdx = dx.as<float>();
  const bool add = mode == ops::Accumulate::yes;
  const Destination to = add ? Destination::caches : destination_of(dx, C);
  parallel_partial_sums(ctx, N, sums, [&](std::int64_t begin, std::int64_t end, float* dw, int) HWY_ATTR {
    for (std::int64_t i = begin * C; i < end * C; i += C) {
      VecF dot = zero();
      for_vectors(C, [&](std::int64_t c, auto io) HWY_ATTR {
        dot = hn::MulAdd(hn::Mul(io.load(pdy + i + c), io.load(w + c)), io.load(x + i + c), dot);
      });
      const float ri = r[i / C];
      const VecF scale = set(ri), mean = set(sum_lanes(dot) * ri * ri / static_cast<float>(C));
      for_vectors(C, [&](std::int64_t c, auto io) HWY_ATTR {
        const VecF d = io.load(pdy + i + c), xc = io.load(x + i + c);
        const VecF inner = hn::NegMulAdd(xc, mean, hn::Mul(d, io.load(w + c)));
        const VecF before = add ? io.load(pdx + i + c) : zero();
        io.store(pdx + i + c, hn::MulAdd(inner, scale, before), to);
        io.store(dw + c, hn::MulAdd(d, hn::Mul(xc, scale), io.load(dw + c)));
      });
    }
    flush_stores(to);
  });
}

void gated_rms_norm_forward(Context& ctx, Tensor y, Tensor inverse_rms, ConstTensor x, ConstTensor gate,
                            ConstTensor weight, ops::RmsNormOptions options) {
  const std::int64_t C = x.shape[1];
  const float *px = x.as<float>(), *w = weight.as<float>(), *pg = gate.as<float>();
  float *py = y.as<float>(), *r = inverse_rms.as<float>();
  const float* addend = options.addend.defined() ? options.addend.as<float>() : nullptr;
  const Destination to = destination_of(y, C);
  parallel_blocks(ctx, x.shape[0], kRows, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t n = begin; n < end; ++n) {
      const std::int64_t i = n * C;
      r[n] = inverse_rms_of(px + i, C, options.epsilon);
      const VecF scale = set(r[n]);
      for_vectors(C, [&](std::int64_t c, auto io) HWY_ATTR {
        const VecF g = io.load(pg + i + c);
        const VecF norm = hn::Mul(hn::Mul(io.load(px + i + c), scale), io.load(w + c));
        const VecF before = addend != nullptr ? io.load(addend + i + c) : zero();
        io.store(py + i + c, hn::MulAdd(norm, hn::Mul(g, sigmoid(g)), before), to);
      });
    }
    flush_stores(to);
  });
}

// With z = silu(gate) and e = dy z: dx and dweight are those of the plain norm for e; dgate = dy x̂ w silu'.
void gated_rms_norm_backward(Context& ctx, Tensor dx, Tensor dgate, Tensor sums, ConstTensor dy,
                             ConstTensor gate, ops::RmsNormInputs in) {
  const std::int64_t N = dx.shape[0], C = dx.shape[1];
  const float *x = in.x.as<float>(), *w = in.weight.as<float>(), *r = in.inverse_rms.as<float>();
  const float *pdy = dy.as<float>(), *pg = gate.as<float>();
  float *pdx = dx.as<float>(), *pdg = dgate.as<float>();
  constexpr std::int64_t kHeld = 512;
  const Destination to = C <= kHeld ? destination_of(dx, C) : Destination::caches,
                    gate_to = destination_of(dgate, C);
  parallel_partial_sums(ctx, N, sums, [&](std::int64_t begin, std::int64_t end, float* dw, int) HWY_ATTR {
    for (std::int64_t i = begin * C; i < end * C; i += C) {
      const float ri = r[i / C];
      const VecF scale = set(ri);
      VecF dot = zero();
      // First pass: dgate, dweight and the mean; w e waits.
      HWY_ALIGN float row[kHeld];
      float* held = C <= kHeld ? row : pdx + i;
      for_vectors(C, [&](std::int64_t c, auto io) HWY_ATTR {
        const VecF d = io.load(pdy + i + c), g = io.load(pg + i + c), xc = io.load(x + i + c);
        const VecF s = sigmoid(g), silu = hn::Mul(g, s);
        const VecF slope = hn::MulAdd(silu, hn::Sub(set(1.0f), s), s);
        const VecF normal = hn::Mul(xc, scale), e = hn::Mul(d, silu), we = hn::Mul(io.load(w + c), e);
        dot = hn::MulAdd(we, xc, dot);
        io.store(pdg + i + c, hn::Mul(hn::Mul(d, slope), hn::Mul(normal, io.load(w + c))), gate_to);
        io.store(dw + c, hn::MulAdd(e, normal, io.load(dw + c)));
        io.store(held + c, we);
      });
      const VecF mean = set(sum_lanes(dot) * ri * ri / static_cast<float>(C));
      for_vectors(C, [&](std::int64_t c, auto io) HWY_ATTR {
        const VecF inner = hn::NegMulAdd(io.load(x + i + c), mean, io.load(held + c));
        io.store(pdx + i + c, hn::Mul(inner, scale), to);
      });
    }
    flush_stores(to);
    flush_stores(gate_to);
  });
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid::cpu {

HWY_EXPORT(rms_norm_forward);
void rms_norm_forward(Context& ctx, Tensor y, Tensor inverse_rms, ConstTensor x, ConstTensor weight,
                      ops::RmsNormOptions options) {
  require_f32("rms_norm_forward", {x});
  HWY_DYNAMIC_DISPATCH(rms_norm_forward)(ctx, y, inverse_rms, x, weight, options);
}

HWY_EXPORT(rms_norm_backward);
void rms_norm_backward(Context& ctx, Tensor dx, Tensor dweight, ConstTensor dy, ops::RmsNormInputs in,
                       ops::Accumulate mode) {
  require_f32("rms_norm_backward", {dy});
  const Arena::Scope scope(*ctx.scratch);
  const Tensor sums = make_partial_sums(ctx, dy.shape[0], dy.shape[1]);
  HWY_DYNAMIC_DISPATCH(rms_norm_backward)(ctx, dx, sums, dy, in, mode);
  add_partial_sums(dweight, sums);
}

HWY_EXPORT(gated_rms_norm_forward);
void gated_rms_norm_forward(Context& ctx, Tensor y, Tensor inverse_rms, ConstTensor x, ConstTensor gate,
                            ConstTensor weight, ops::RmsNormOptions options) {
  require_f32("gated_rms_norm_forward", {x});
  HWY_DYNAMIC_DISPATCH(gated_rms_norm_forward)(ctx, y, inverse_rms, x, gate, weight, options);
}

HWY_EXPORT(gated_rms_norm_backward);
void gated_rms_norm_backward(Context& ctx, Tensor dx, Tensor dgate, Tensor dweight, ConstTensor dy,
                             ConstTensor gate, ops::RmsNormInputs in) {
  require_f32("gated_rms_norm_backward", {dy});
  const Arena::Scope scope(*ctx.scratch);
  const Tensor sums = make_partial_sums(ctx, dy.shape[0], dy.shape[1]);
  HWY_DYNAMIC_DISPATCH(gated_rms_norm_backward)(ctx, dx, dgate, sums, dy, gate, in);
  add_partial_sums(dweight, sums);
}

void scratch::rms_norm_backward(Context& ctx, Tensor, Tensor, ConstTensor dy, ops::RmsNormInputs,
                                ops::Accumulate) {
  const Arena::Scope scope(*ctx.scratch);
  make_partial_sums(ctx, dy.shape[0], dy.shape[1]);
}

void scratch::gated_rms_norm_backward(Context& ctx, Tensor, Tensor, Tensor, ConstTensor dy, ConstTensor,
                                      ops::RmsNormInputs) {
  const Arena::Scope scope(*ctx.scratch);
  make_partial_sums(ctx, dy.shape[0], dy.shape[1]);
}

}  // namespace braid::cpu
#endif
