// Products of small f32 matrices held in scratch, and triangular substitution: register tiles of kTileRows
// rows by up to three vectors.
#if defined(BRAID_BACKENDS_CPU_GATED_DELTA_PRODUCT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_BACKENDS_CPU_GATED_DELTA_PRODUCT_INL_H
#undef BRAID_BACKENDS_CPU_GATED_DELTA_PRODUCT_INL_H
#else
#define BRAID_BACKENDS_CPU_GATED_DELTA_PRODUCT_INL_H
#endif

#include "braid/backends/cpu/gated_delta_scratch.h"
#include "braid/backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE::delta {

// 24 accumulators in 32 vector registers, 12 in the 16 that x86 has below AVX-512.
inline constexpr int kTileRows = HWY_ARCH_X86 && HWY_MAX_BYTES < 64 ? 4 : 8;
static_assert(HWY_MAX_BYTES <= kPad * sizeof(float));

// Left factor as stored, or the transpose of what is stored.
enum class Order : std::uint8_t { rows, columns };
// Parts known to be zero (left factor) or not wanted (result): i is the row, k the inner index.
enum class Form : std::uint8_t { dense, left_lower, left_upper, result_lower };

// c = keep·c + a·b. rows and columns are multiples of kPad, or the columns of one panel; keep 0 overwrites.
struct Product {
  Matrix c, a, b;
  std::int64_t rows, columns, depth;
  Order order = Order::rows;
  Form form = Form::dense;
  float keep = 0;
};

template <int kVectors, Order kOrder>
HWY_INLINE void product_tile(const Product& p, std::int64_t i, std::int64_t j, std::int64_t k0,
                             std::int64_t k1) {
  const std::int64_t step = lanes(), ldc = p.c.ld, ldb = p.b.ld;
  const std::int64_t row = kOrder == Order::rows ? p.a.ld : 1, next = kOrder == Order::rows ? 1 : p.a.ld;
  float* c = p.c.data + i * ldc + j;
  VecF sum[kTileRows][kVectors];
  const VecF keep = set(p.keep);
  for (int r = 0; r < kTileRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = p.keep == 0 ? zero() : hn::Mul(keep, hn::Load(Floats(), c + r * ldc + v * step));
    }
  }
  const float *a = p.a.data + i * row + k0 * next, *b = p.b.data + k0 * ldb + j;
  for (std::int64_t k = k0; k < k1; ++k, a += next, b += ldb) {
    VecF right[kVectors];
    for (int v = 0; v < kVectors; ++v) right[v] = hn::Load(Floats(), b + v * step);
    for (int r = 0; r < kTileRows; ++r) {
      const VecF left = set(a[r * row]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(left, right[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kTileRows; ++r) {
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[r][v], Floats(), c + r * ldc + v * step);
  }
}

template <int kVectors, Order kOrder>
HWY_NOINLINE void product_panel(const Product& p, std::int64_t j) {
  for (std::int64_t i = 0; i < p.rows; i += kTileRows) {
    if (p.form == Form::result_lower && i + kTileRows <= j) continue;
    const std::int64_t k0 = p.form == Form::left_upper ? i : 0;
    const std::int64_t k1 = p.form == Form::left_lower ? std::min(p.depth, i + kTileRows) : p.depth;
    product_tile<kVectors, kOrder>(p, i, j, k0, k1);
  }
}

// Vectors of the next panel when `left` remain: threes, ending in twos rather than a one.
HWY_INLINE std::int64_t panel_vectors(std::int64_t left) {
  return left == 2 || left == 4 ? 2 : left == 1 ? 1 : 3;
}
HWY_INLINE std::int64_t panel_columns(std::int64_t left) { return panel_vectors(left / lanes()) * lanes(); }

// Calls f.template operator()<vectors>(column) for each panel.
template <class F>
HWY_INLINE void for_panels(std::int64_t columns, F&& f) {
  for (std::int64_t j = 0; j < columns;) {
    const std::int64_t vectors = panel_vectors((columns - j) / lanes());
    if (vectors == 3) f.template operator()<3>(j);
    if (vectors == 2) f.template operator()<2>(j);
    if (vectors == 1) f.template operator()<1>(j);
    j += vectors * lanes();
  }
}

inline void product(const Product& p) {
  for_panels(p.columns, [&]<int kVectors>(std::int64_t j) HWY_ATTR {
    if (p.order == Order::rows) {
      product_panel<kVectors, Order::rows>(p, j);
    } else {
      product_panel<kVectors, Order::columns>(p, j);
    }
  });
}

// x ← (I + L)⁻¹ x with L strictly lower (Order::rows), or (I + Lᵀ)⁻¹ x (Order::columns).
struct Substitution {
  Matrix x, lower;
  std::int64_t rows, columns;
  Order order = Order::rows;
};

// Rows [i, i + kTileRows), the rows that they depend on being done.
template <int kVectors, Order kOrder>
HWY_INLINE void substitute_tile(const Substitution& s, std::int64_t i, std::int64_t j) {
  const std::int64_t step = lanes(), ldx = s.x.ld;
  const std::int64_t row = kOrder == Order::rows ? s.lower.ld : 1;
  const std::int64_t next = kOrder == Order::rows ? 1 : s.lower.ld;
  float* x = s.x.data + i * ldx + j;
  VecF sum[kTileRows][kVectors];
  for (int r = 0; r < kTileRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::Load(Floats(), x + r * ldx + v * step);
  }
  const std::int64_t k0 = kOrder == Order::rows ? 0 : i + kTileRows, k1 = kOrder == Order::rows ? i : s.rows;
  const float *a = s.lower.data + i * row + k0 * next, *b = s.x.data + k0 * ldx + j;
  for (std::int64_t k = k0; k < k1; ++k, a += next, b += ldx) {
    VecF right[kVectors];
    for (int v = 0; v < kVectors; ++v) right[v] = hn::Load(Floats(), b + v * step);
    for (int r = 0; r < kTileRows; ++r) {
      const VecF left = set(a[r * row]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::NegMulAdd(left, right[v], sum[r][v]);
    }
  }
  const float* diagonal = s.lower.data + i * s.lower.ld + i;
  for (int n = 0; n < kTileRows; ++n) {
    const int done = kOrder == Order::rows ? n : kTileRows - 1 - n;
    for (int m = n + 1; m < kTileRows; ++m) {
      const int r = kOrder == Order::rows ? m : kTileRows - 1 - m;
      const VecF left = set(diagonal[r * row + done * next]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::NegMulAdd(left, sum[done][v], sum[r][v]);
    }
  }
  for (int r = 0; r < kTileRows; ++r) {
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[r][v], Floats(), x + r * ldx + v * step);
  }
}

template <int kVectors, Order kOrder>
HWY_NOINLINE void substitute_panel(const Substitution& s, std::int64_t j) {
  for (std::int64_t n = 0; n < s.rows; n += kTileRows) {
    substitute_tile<kVectors, kOrder>(s, kOrder == Order::rows ? n : s.rows - kTileRows - n, j);
  }
}

inline void substitute(const Substitution& s) {
  for_panels(s.columns, [&]<int kVectors>(std::int64_t j) HWY_ATTR {
    if (s.order == Order::rows) {
      substitute_panel<kVectors, Order::rows>(s, j);
    } else {
      substitute_panel<kVectors, Order::columns>(s, j);
    }
  });
}

// D: four floats, or one on the scalar target, which has no Interleave: found by argument, if at all.
template <class D>
HWY_INLINE void transpose_with(D d, Matrix to, Matrix from, std::int64_t rows, std::int64_t columns) {
  if constexpr (hn::MaxLanes(D()) < 4) {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) to.row(j)[i] = from.row(i)[j];
    }
  } else {
    const hn::Repartition<double, D> pairs;
    for (std::int64_t i = 0; i < rows; i += 4) {
      for (std::int64_t j = 0; j < columns; j += 4) {
        const auto r0 = hn::Load(d, from.row(i) + j), r1 = hn::Load(d, from.row(i + 1) + j);
        const auto r2 = hn::Load(d, from.row(i + 2) + j), r3 = hn::Load(d, from.row(i + 3) + j);
        const auto low01 = hn::BitCast(pairs, InterleaveLower(d, r0, r1));
        const auto low23 = hn::BitCast(pairs, InterleaveLower(d, r2, r3));
        const auto high01 = hn::BitCast(pairs, InterleaveUpper(d, r0, r1));
        const auto high23 = hn::BitCast(pairs, InterleaveUpper(d, r2, r3));
        hn::Store(hn::BitCast(d, InterleaveLower(pairs, low01, low23)), d, to.row(j) + i);
        hn::Store(hn::BitCast(d, InterleaveUpper(pairs, low01, low23)), d, to.row(j + 1) + i);
        hn::Store(hn::BitCast(d, InterleaveLower(pairs, high01, high23)), d, to.row(j + 2) + i);
        hn::Store(hn::BitCast(d, InterleaveUpper(pairs, high01, high23)), d, to.row(j + 3) + i);
      }
    }
  }
}

// to (columns, rows) = fromᵀ; rows and columns are multiples of kPad.
inline void transpose(Matrix to, Matrix from, std::int64_t rows, std::int64_t columns) {
  transpose_with(hn::CappedTag<float, 4>(), to, from, rows, columns);
}

}  // namespace braid::cpu::HWY_NAMESPACE::delta
HWY_AFTER_NAMESPACE();

#endif
