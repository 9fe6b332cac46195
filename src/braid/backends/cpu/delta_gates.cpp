#include "braid/backends/cpu/kernels.h"
#include "braid/backends/cpu/partial_sums.h"
#include "braid/backends/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/backends/cpu/delta_gates.cpp"
#include <hwy/foreach_target.h>
// After it:
#include <hwy/contrib/math/math-inl.h>

#include "braid/backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

constexpr std::int64_t kTokens = 64;  // per task

// log(1 + e^x) without overflow.
HWY_INLINE VecF softplus(VecF x) {
  return hn::Add(hn::Max(x, zero()), hn::Log1p(Floats(), exp(hn::Neg(hn::Abs(x)))));
}

void delta_gates_forward(Context& ctx, Tensor log_decay, Tensor beta, ops::DeltaGateInputs in,
                         ops::DeltaGateOptions options) {
  const std::int64_t N = log_decay.shape[0], H = log_decay.shape[1];
  const float *ab = in.ab.as<float>(), *a_log = in.a_log.as<float>(), *bias = in.dt_bias.as<float>();
  float *decay = log_decay.as<float>(), *pbeta = beta.as<float>();
  const VecF scale = set(static_cast<float>(options.beta_scale));
  parallel_blocks(ctx, N, kTokens, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for_vectors(H, [&](std::int64_t h, auto io) HWY_ATTR {
      const VecF rate = exp(io.load(a_log + h)), shift = io.load(bias + h);
      for (std::int64_t n = begin; n < end; ++n) {
        const float* row = ab + n * 2 * H + h;
        const VecF step = softplus(hn::Add(io.load(row), shift));
        io.store(decay + n * H + h, hn::Neg(hn::Mul(rate, step)));
        io.store(pbeta + n * H + h, hn::Mul(scale, sigmoid(io.load(row + H))));
      }
    });
  });
}

// Rows of sums: H of da_log, then H of ddt_bias.
void delta_gates_backward(Context& ctx, Tensor dab, Tensor sums, ConstTensor dlog_decay, ConstTensor dbeta,
                          ops::DeltaGateInputs in, ops::DeltaGateOptions options) {
  const std::int64_t N = dlog_decay.shape[0], H = dlog_decay.shape[1];
  const float *ab = in.ab.as<float>(), *a_log = in.a_log.as<float>(), *bias = in.dt_bias.as<float>();
  const float *dg = dlog_decay.as<float>(), *db = dbeta.as<float>();
  float* out = dab.as<float>();
  const VecF scale = set(static_cast<float>(options.beta_scale));
  parallel_partial_sums(ctx, N, sums, [&](std::int64_t begin, std::int64_t end, float* sum, int) HWY_ATTR {
    for_vectors(H, [&](std::int64_t h, auto io) HWY_ATTR {
      const VecF rate = exp(io.load(a_log + h)), shift = io.load(bias + h);
      VecF da_log = zero(), ddt_bias = zero();
      for (std::int64_t n = begin; n < end; ++n) {
        const float* row = ab + n * 2 * H + h;
        const VecF z = hn::Add(io.load(row), shift), s = sigmoid(io.load(row + H));
        const VecF d = hn::Neg(hn::Mul(io.load(dg + n * H + h), rate));
        const VecF dz = hn::Mul(d, sigmoid(z));
        const VecF dwrite =
            hn::Mul(hn::Mul(io.load(db + n * H + h), scale), hn::Mul(s, hn::Sub(set(1.0f), s)));
        io.store(out + n * 2 * H + h, dz);
        io.store(out + n * 2 * H + H + h, dwrite);
        da_log = hn::MulAdd(d, softplus(z), da_log);
        ddt_bias = hn::Add(ddt_bias, dz);
      }
      io.store(sum + h, da_log);
      io.store(sum + H + h, ddt_bias);
    });
  });
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid::cpu {

HWY_EXPORT(delta_gates_forward);
void delta_gates_forward(Context& ctx, Tensor log_decay, Tensor beta, ops::DeltaGateInputs in,
                         ops::DeltaGateOptions options) {
  require_f32("delta_gates_forward", {in.ab});
  HWY_DYNAMIC_DISPATCH(delta_gates_forward)(ctx, log_decay, beta, in, options);
}

HWY_EXPORT(delta_gates_backward);
void delta_gates_backward(Context& ctx, ops::DeltaGateGradients grads, ConstTensor dlog_decay,
                          ConstTensor dbeta, ops::DeltaGateInputs in, ops::DeltaGateOptions options) {
  require_f32("delta_gates_backward", {in.ab});
  const Arena::Scope scope(*ctx.scratch);
  const Tensor sums = make_partial_sums(ctx, dbeta.shape[0], in.ab.shape[1]);
  HWY_DYNAMIC_DISPATCH(delta_gates_backward)(ctx, grads.ab, sums, dlog_decay, dbeta, in, options);
  add_partial_sums(grads.a_log, sums);
  add_partial_sums(grads.dt_bias, sums, dbeta.shape[1]);
}

void scratch::delta_gates_backward(Context& ctx, ops::DeltaGateGradients, ConstTensor, ConstTensor dbeta,
                                   ops::DeltaGateInputs in, ops::DeltaGateOptions) {
  const Arena::Scope scope(*ctx.scratch);
  make_partial_sums(ctx, dbeta.shape[0], in.ab.shape[1]);
}

}  // namespace braid::cpu
#endif
