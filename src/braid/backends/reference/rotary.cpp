#include "braid/ops/rotary.h"

#include "braid/backends/reference/reference.h"
#include "braid/backends/reference/scalar.h"

namespace braid::reference {

void rotary_table(Context&, Tensor cos, Tensor sin, std::span<const double> inverse_frequencies,
                  double factor) {
  const std::int64_t P = cos.shape[0], half = cos.shape[1];
  visit_float(cos.dtype, [&]<class T>() {
    for (std::int64_t p = 0; p < P; ++p) {
      for (std::int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(p) * inverse_frequencies[static_cast<std::size_t>(i)];
        cos.as<T>()[p * half + i] = static_cast<T>(factor * std::cos(angle));
        sin.as<T>()[p * half + i] = static_cast<T>(factor * std::sin(angle));
      }
    }
  });
}

void rotary(Context&, Tensor y, ConstTensor x, ops::RotaryTable table, ConstTensor positions,
            ops::Rotation rotation) {
  const std::int64_t N = x.shape[0], H = x.shape[1], D = x.shape[2], half = D / 2, P = table.cos.shape[0];
  const double direction = rotation == ops::Rotation::forward ? 1.0 : -1.0;
  visit_float(x.dtype, [&]<class T>() {
    for (std::int64_t n = 0; n < N; ++n) {
      const std::int64_t p = positions.as<std::int32_t>()[n];
      require(p >= 0 && p < P, "rotary: positions[{}] is {}, expected [0, {})", n, p, P);
      for (std::int64_t h = 0; h < H; ++h) {
        const T* in = x.as<T>() + (n * H + h) * D;
        T* out = y.as<T>() + (n * H + h) * D;
        for (std::int64_t i = 0; i < half; ++i) {
          const double cos = to_double(table.cos.as<T>()[p * half + i]);
          const double sin = to_double(table.sin.as<T>()[p * half + i]) * direction;
          const double a = to_double(in[i]), b = to_double(in[i + half]);
          out[i] = static_cast<T>(a * cos - b * sin);
          out[i + half] = static_cast<T>(b * cos + a * sin);
        }
      }
    }
  });
}

}  // namespace braid::reference
