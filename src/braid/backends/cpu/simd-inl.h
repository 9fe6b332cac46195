// Vector helpers shared by the kernels, compiled once per SIMD target. The pattern of a kernel file x.cpp:
//
//   #include ...                              // ordinary headers, and cpu/targets.h
//   #undef HWY_TARGET_INCLUDE
//   #define HWY_TARGET_INCLUDE "braid/backends/cpu/x.cpp"
//   #include <hwy/foreach_target.h>           // re-includes x.cpp for every target but the baseline
//   #include "braid/backends/cpu/simd-inl.h"  // after foreach_target.h
//   HWY_BEFORE_NAMESPACE();
//   namespace braid::cpu::HWY_NAMESPACE {
//   void x(Context&, ...) { ... }             // the whole op; put HWY_ATTR on lambdas
//   }
//   HWY_AFTER_NAMESPACE();
//   #if HWY_ONCE                              // Highway's idiom, the one #if allowed
//   namespace braid::cpu {
//   HWY_EXPORT(x);
//   void x(Context& ctx, ...) { HWY_DYNAMIC_DISPATCH(x)(ctx, ...); }
//   }
//   #endif
//
// elementwise.cpp is the smallest example. Templates and inline functions of ordinary headers are compiled
// for the baseline; only what stands between BEFORE and AFTER may use vectors.
#if defined(BRAID_BACKENDS_CPU_SIMD_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_BACKENDS_CPU_SIMD_INL_H
#undef BRAID_BACKENDS_CPU_SIMD_INL_H
#else
#define BRAID_BACKENDS_CPU_SIMD_INL_H
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cmath>
#include <cstdint>
#include <utility>

#include "braid/core/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;  // the widest vector of f32
using VecF = hn::Vec<Floats>;
HWY_INLINE std::int64_t lanes() { return static_cast<std::int64_t>(hn::Lanes(Floats())); }
HWY_INLINE VecF set(float x) { return hn::Set(Floats(), x); }
HWY_INLINE VecF zero() { return hn::Zero(Floats()); }

// Where results go: into the caches, or past them. Stores into the caches first read what they overwrite.
enum class Destination : bool { caches, memory };

// Memory, for what is larger than the L2 cache and stored in aligned runs of `width` floats, whole vectors
// all. After its last store a task calls flush_stores().
HWY_INLINE Destination destination_of(const Tensor& t, std::int64_t width) {
  constexpr std::size_t kLarge = std::size_t{4} << 20;
  const auto vector = static_cast<std::uintptr_t>(lanes()) * sizeof(float);
  const bool aligned = reinterpret_cast<std::uintptr_t>(t.as<float>()) % vector == 0;
  return t.bytes() >= kLarge && aligned && width % lanes() == 0 ? Destination::memory : Destination::caches;
}
HWY_INLINE void flush_stores(Destination to) {
  if (to == Destination::memory) hwy::FlushStream();
}

// Access to one whole vector, or to the first `n` lanes of one (the others load as zero).
struct Whole {
  HWY_INLINE VecF load(const float* p) const { return hn::LoadU(Floats(), p); }
  HWY_INLINE void store(float* p, VecF v) const { hn::StoreU(v, Floats(), p); }
  HWY_INLINE void store(float* p, VecF v, Destination to) const {
    if (to == Destination::memory) {
      hn::Stream(v, Floats(), p);
    } else {
      store(p, v);
    }
  }
  HWY_INLINE VecF keep(VecF v) const { return v; }
  HWY_INLINE VecF choose(VecF inside, VecF) const { return inside; }
};
struct Part {
  hn::Mask<Floats> mask;
  HWY_INLINE explicit Part(std::int64_t n) : mask(hn::FirstN(Floats(), static_cast<std::size_t>(n))) {}
  HWY_INLINE VecF load(const float* p) const { return hn::MaskedLoad(mask, Floats(), p); }
  HWY_INLINE void store(float* p, VecF v) const { hn::BlendedStore(v, mask, Floats(), p); }
  HWY_INLINE void store(float* p, VecF v, Destination) const { store(p, v); }
  // Zero in the lanes outside, for sums.
  HWY_INLINE VecF keep(VecF v) const { return hn::IfThenElseZero(mask, v); }
  // For other reductions: the lanes outside take another value.
  HWY_INLINE VecF choose(VecF inside, VecF outside) const { return hn::IfThenElse(mask, inside, outside); }
};

// Calls body(i, access) for each vector of [0, n), the last with Part if it is not full.
template <class Body>
HWY_INLINE void for_vectors(std::int64_t n, Body&& body) {
  const std::int64_t step = lanes();
  std::int64_t i = 0;
  for (; i + step <= n; i += step) body(i, Whole());
  if (i < n) body(i, Part(n - i));
}

// Calls body(0), body(1), … body(N - 1) with compile-time indices, so that arrays of vectors stay in
// registers.
template <int N, class Body>
HWY_INLINE void unroll(Body&& body) {
  [&]<int... I>(std::integer_sequence<int, I...>) HWY_ATTR { (body(std::integral_constant<int, I>()), ...); }
  (std::make_integer_sequence<int, N>());
}

// One vector of bf16 widened to f32.
HWY_INLINE VecF load_bf16(const BFloat16* p) {
  const hn::Rebind<std::uint16_t, Floats> d16;
  const hn::RebindToUnsigned<Floats> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const std::uint16_t*>(p));
  return hn::BitCast(Floats(), hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}

HWY_INLINE float sum_lanes(VecF v) { return hn::GetLane(hn::SumOfLanes(Floats(), v)); }
HWY_INLINE float max_lanes(VecF v) { return hn::GetLane(hn::MaxOfLanes(Floats(), v)); }

// (e^r − 1 − r) / r² for |r| ≤ ln 2 / 2: the polynomial of Cephes' expf.
HWY_INLINE VecF exp_series(VecF r) {
  VecF p = set(1.9875691500e-4f);
  p = hn::MulAdd(p, r, set(1.3981999507e-3f));
  p = hn::MulAdd(p, r, set(8.3334519073e-3f));
  p = hn::MulAdd(p, r, set(4.1665795894e-2f));
  p = hn::MulAdd(p, r, set(1.6666665459e-1f));
  p = hn::MulAdd(p, r, set(5.0000001201e-1f));
  return p;
}

// e^x within 2 ulp; 0 below the smallest normal result (x < -87.33), and +inf above 88.72. Reduction by
// n ln 2, then the polynomial of Cephes' expf.
HWY_INLINE VecF exp(VecF x) {
  const Floats d;
  const hn::RebindToSigned<Floats> di;
  const VecF n = hn::Round(hn::Mul(hn::Min(hn::Max(x, set(-104.0f)), set(89.0f)), set(1.44269504088896341f)));
  VecF r = hn::NegMulAdd(n, set(0.693359375f), x);
  r = hn::NegMulAdd(n, set(-2.12194440e-4f), r);
  const VecF p = hn::Add(hn::MulAdd(exp_series(r), hn::Mul(r, r), r), set(1.0f));
  // 2^n in two factors: 2^128 is not a float, though e^88.7 is.
  const auto e = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(e);
  const auto bias = hn::Set(di, 127);
  const VecF scale0 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const VecF scale1 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(e, half), bias)));
  const VecF y = hn::Mul(hn::Mul(p, scale0), scale1);
  const VecF low = hn::IfThenZeroElse(hn::Lt(x, set(-87.3365f)), y);
  return hn::IfThenElse(hn::Gt(x, set(88.7228f)), set(HUGE_VALF), low);
}

// e^x within 2 ulp where |x| ≤ 87, so that neither end of the range needs care; garbage elsewhere.
HWY_INLINE VecF exp_inside(VecF x) {
  const hn::RebindToSigned<Floats> di;
  // Adding 1.5 · 2^23 rounds to an integer and leaves it in the lowest bits, from where it goes to the
  // exponent.
  const VecF magic = set(12582912.0f), shifted = hn::MulAdd(x, set(1.44269504088896341f), magic);
  const VecF n = hn::Sub(shifted, magic);
  VecF r = hn::NegMulAdd(n, set(0.693359375f), x);
  r = hn::NegMulAdd(n, set(-2.12194440e-4f), r);
  const VecF p = hn::MulAdd(hn::MulAdd(exp_series(r), r, set(1.0f)), r, set(1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::BitCast(Floats(), hn::Add(hn::BitCast(di, p), exponent));
}

// 1 / x within 2 ulp, for normal x whose inverse is normal, too. Where division takes as long as sixteen
// products, one Newton step from 14 bits takes three.
HWY_INLINE VecF inverse(VecF x) {
  if constexpr (HWY_ARCH_X86 && HWY_MAX_BYTES == 64) {
    const VecF y = hn::ApproximateReciprocal(x);
    return hn::MulAdd(y, hn::NegMulAdd(x, y, set(1.0f)), y);
  } else {
    return hn::Div(set(1.0f), x);
  }
}

// 1 / (1 + e^-x); 0 where x < -87. NaN stays NaN: on x86 Min and Max return their second operand then.
HWY_INLINE VecF sigmoid(VecF x) {
  const VecF inside = hn::Max(set(-87.0f), hn::Min(set(87.0f), x));
  const VecF y = inverse(hn::Add(set(1.0f), exp_inside(hn::Neg(inside))));
  return hn::IfThenZeroElse(hn::Lt(x, set(-87.0f)), y);
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
