#include "braid/backends/reference/reference.h"
#include "braid/backends/reference/scalar.h"

namespace braid::reference {

void matmul(Context&, Tensor c, ConstTensor a, ConstTensor b, ops::MatmulOptions options) {
  const bool ta = options.a == ops::Transpose::yes, tb = options.b == ops::Transpose::yes;
  const bool accumulate = options.accumulate == ops::Accumulate::yes;
  const std::int64_t M = c.shape[0], N = c.shape[1], K = a.shape[ta ? 0 : 1];
  visit_float(c.dtype, [&]<class T>() {
    visit_storage(b.dtype, [&]<class W>() {
      const T* A = a.as<T>();
      const W* B = b.as<W>();
      T* C = c.as<T>();
      const T* before = accumulate ? C : options.addend.defined() ? options.addend.as<T>() : nullptr;
      for (std::int64_t m = 0; m < M; ++m) {
        for (std::int64_t n = 0; n < N; ++n) {
          double sum = before != nullptr ? to_double(before[m * N + n]) : 0.0;
          for (std::int64_t k = 0; k < K; ++k) {
            sum += to_double(A[ta ? k * M + m : m * K + k]) * to_double(B[tb ? n * K + k : k * N + n]);
          }
          C[m * N + n] = static_cast<T>(sum);
        }
      }
    });
  });
}

void linear_group(Context& ctx, std::span<const ops::LinearPart> parts, ConstTensor x) {
  for (const auto& [y, weight] : parts) matmul(ctx, y, x, weight, {.b = ops::Transpose::yes});
}

}  // namespace braid::reference
