// Scalar functions and index helpers of the reference loops.
#pragma once
#include <cmath>
#include <type_traits>

#include "braid/ops/segments.h"

namespace braid::reference {

template <class T>
double to_double(T x) {
  if constexpr (std::is_arithmetic_v<T>) {
    return static_cast<double>(x);
  } else {
    return static_cast<double>(static_cast<float>(x));
  }
}

// 16-bit results are rounded to f32 first, as every other backend does.
template <class T>
T from_double(double x) {
  if constexpr (std::is_arithmetic_v<T>) {
    return static_cast<T>(x);
  } else {
    return T(static_cast<float>(x));
  }
}

// Calls f.template operator()<T>() with the storage type of any floating dtype.
template <class F>
void visit_storage(DType t, F&& f) {
  if (t == DType::bf16) return f.template operator()<BFloat16>();
  if (t == DType::f16) return f.template operator()<Float16>();
  visit_float(t, f);
}

inline double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
inline double silu(double x) { return x * sigmoid(x); }
inline double silu_derivative(double x) {
  const double s = sigmoid(x);
  return s * (1.0 + x * (1.0 - s));
}
inline double softplus(double x) { return std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }

// Tokens [begin, end) of one segment.
struct Range {
  std::int64_t begin, end;
  std::int64_t length() const { return end - begin; }
};
inline Range segment(const ops::Segments& segments, std::int64_t s) {
  const auto* offsets = segments.offsets.as<std::int32_t>();
  return {offsets[s], offsets[s + 1]};
}

// Offsets are data, which only a host backend can check cheaply.
inline void require_segments(std::string_view op, const ops::Segments& segments, std::int64_t tokens) {
  require(segments.count() >= 0, "{}: segments.offsets is empty, expected S + 1 offsets", op);
  const auto* offsets = segments.offsets.as<std::int32_t>();
  bool ok = offsets[0] == 0 && offsets[segments.count()] == tokens;
  for (std::int64_t s = 0; s < segments.count(); ++s) ok = ok && offsets[s] <= offsets[s + 1];
  require(ok, "{}: segments.offsets do not ascend from 0 to the {} tokens", op, tokens);
}

}  // namespace braid::reference
