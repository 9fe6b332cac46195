// The register tile of matrix products: c (kTileRows, kTileColumns) += a · b over packed operands.
#if defined(BRAID_BACKENDS_CPU_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_BACKENDS_CPU_TILE_INL_H
#undef BRAID_BACKENDS_CPU_TILE_INL_H
#else
#define BRAID_BACKENDS_CPU_TILE_INL_H
#endif

#include <algorithm>

#include "braid/backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

// 32 registers hold 14 × 2 sums, 16 hold 6 × 2.
inline constexpr int kTileRows = HWY_LANES(float) >= 16 ? 14 : 6;
inline constexpr int kTileColumns = 2 * HWY_LANES(float);

// Where element (r, k) of a tile of a lies: at r · row + k · inner, both known to the compiler.
template <int Row, int Inner>
struct TileLayout {
  static constexpr int row = Row, inner = Inner;
};

// sum[r][j] += Σ_k a(r, k) b(k, j); b holds kTileColumns consecutive floats for each k.
template <class Layout, int Rows, int Vectors>
HWY_INLINE void accumulate_tile(VecF (&sum)[Rows][Vectors], std::int64_t inner, const float* HWY_RESTRICT a,
                                const float* HWY_RESTRICT b) {
  for (std::int64_t k = 0; k < inner; ++k) {
    VecF bk[Vectors];
    unroll<Vectors>([&](auto j) HWY_ATTR { bk[j] = hn::LoadU(Floats(), b + j * HWY_LANES(float)); });
    unroll<Rows>([&](auto r) HWY_ATTR {
      const VecF ar = set(a[r * Layout::row]);
      unroll<Vectors>([&](auto j) HWY_ATTR { sum[r][j] = hn::MulAdd(ar, bk[j], sum[r][j]); });
    });
    a += Layout::inner;
    b += kTileColumns;
  }
}

// The first vector of columns of a product, kTileRows rows of it: for a lone query.
template <class Layout>
HWY_NOINLINE void narrow_tile_product(std::int64_t inner, const float* a, const float* b, float* c,
                                      std::int64_t stride) {
  VecF sum[kTileRows][1];
  unroll<kTileRows>([&](auto r) HWY_ATTR { sum[r][0] = zero(); });
  accumulate_tile<Layout>(sum, inner, a, b);
  unroll<kTileRows>([&](auto r) HWY_ATTR { hn::StoreU(sum[r][0], Floats(), c + r * stride); });
}

// c = or += the product, as far as c (rows, columns) reaches. Reads Rows rows of a and kTileColumns columns
// of b whatever c has.
template <class Layout, int Rows = kTileRows>
HWY_NOINLINE void tile_product(std::int64_t inner, const float* a, const float* b, float* c,
                               std::int64_t stride, std::int64_t rows, std::int64_t columns, bool add) {
  VecF sum[Rows][2];
  unroll<Rows>([&](auto r) HWY_ATTR { sum[r][0] = sum[r][1] = zero(); });
  accumulate_tile<Layout>(sum, inner, a, b);
  constexpr std::int64_t kLanes = HWY_LANES(float);
  const auto finish = [&](auto r, auto low, auto high, bool two) HWY_ATTR {
    float* at = c + r * stride;
    low.store(at, add ? hn::Add(sum[r][0], low.load(at)) : sum[r][0]);
    if (two) high.store(at + kLanes, add ? hn::Add(sum[r][1], high.load(at + kLanes)) : sum[r][1]);
  };
  if (rows >= Rows && columns >= kTileColumns) {
    unroll<Rows>([&](auto r) HWY_ATTR { finish(r, Whole(), Whole(), true); });
    return;
  }
  const Part low(std::min(columns, kLanes)), high(std::clamp<std::int64_t>(columns - kLanes, 0, kLanes));
  unroll<Rows>([&](auto r) HWY_ATTR {
    if (r < rows) finish(r, low, high, columns > kLanes);
  });
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
