#include "braid/backends/cpu/kernels.h"
#include "braid/backends/cpu/parallel.h"
#include "braid/backends/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/backends/cpu/elementwise.cpp"
#include <hwy/foreach_target.h>

#include "braid/backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

constexpr std::int64_t kBlock = 16384;  // elements per task

void add(Context& ctx, Tensor y, ConstTensor a, ConstTensor b) {
  const float *pa = a.as<float>(), *pb = b.as<float>();
  float* py = y.as<float>();
  parallel_blocks(ctx, y.count(), kBlock, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for_vectors(end - begin, [&](std::int64_t i, auto io) HWY_ATTR {
      io.store(py + begin + i, hn::Add(io.load(pa + begin + i), io.load(pb + begin + i)));
    });
  });
}

void widen(Context& ctx, Tensor y, ConstTensor x) {
  const BFloat16* px = x.as<BFloat16>();
  float* py = y.as<float>();
  parallel_blocks(ctx, y.count(), kBlock, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (; begin + lanes() <= end; begin += lanes()) hn::StoreU(load_bf16(px + begin), Floats(), py + begin);
    for (; begin < end; ++begin) py[begin] = static_cast<float>(px[begin]);
  });
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid::cpu {
namespace {

constexpr std::int64_t kBlock = 16384;  // elements per task

// Calls f.template operator()<T>() with the storage type.
template <class F>
void visit_storage(std::string_view op, DType t, F&& f) {
  switch (t) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f64:
      return f.template operator()<double>();
    case DType::bf16:
      return f.template operator()<BFloat16>();
    case DType::f16:
      return f.template operator()<Float16>();
    default:
      fail("{}: dtype {} is not supported, expected f32, f64, bf16 or f16", op, name_of(t));
  }
}

// Any two of them; f64 is rounded to f32 on its way to 16 bits.
template <class To, class From>
To convert(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else {
    return static_cast<To>(static_cast<float>(x));
  }
}

}  // namespace

HWY_EXPORT(add);
void add(Context& ctx, Tensor y, ConstTensor a, ConstTensor b) {
  require_f32("add", {y});
  HWY_DYNAMIC_DISPATCH(add)(ctx, y, a, b);
}

void fill(Context& ctx, Tensor t, double value) {
  visit_storage("fill", t.dtype, [&]<class T>() {
    T* p = t.as<T>();
    const T x = convert<T>(value);
    parallel_blocks(ctx, t.count(), kBlock,
                    [&](std::int64_t begin, std::int64_t end) { std::fill(p + begin, p + end, x); });
  });
}

HWY_EXPORT(widen);
void copy(Context& ctx, Tensor y, ConstTensor x) {
  if (x.dtype == DType::bf16 && y.dtype == DType::f32) return HWY_DYNAMIC_DISPATCH(widen)(ctx, y, x);
  visit_storage("copy", y.dtype, [&]<class Y>() {
    visit_storage("copy", x.dtype, [&]<class X>() {
      Y* to = y.as<Y>();
      const X* from = x.as<X>();
      parallel_blocks(ctx, y.count(), kBlock, [&](std::int64_t begin, std::int64_t end) {
        std::transform(from + begin, from + end, to + begin, [](X v) { return convert<Y, X>(v); });
      });
    });
  });
}

}  // namespace braid::cpu
#endif
