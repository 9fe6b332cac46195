// c = a · bᵀ by dot products of rows: for few rows of a (decoding), bound by reading b, and for strict
// arithmetic. Each element of c has one vector of partial sums over K, whatever tile it falls into.
#if defined(BRAID_BACKENDS_CPU_MATMUL_DOT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_BACKENDS_CPU_MATMUL_DOT_INL_H
#undef BRAID_BACKENDS_CPU_MATMUL_DOT_INL_H
#else
#define BRAID_BACKENDS_CPU_MATMUL_DOT_INL_H
#endif

#include "braid/backends/cpu/matmul.h"
#include "braid/backends/cpu/parallel.h"
#include "braid/backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

HWY_INLINE VecF load_weight(const float* p) { return hn::LoadU(Floats(), p); }
HWY_INLINE VecF load_weight(const BFloat16* p) { return load_bf16(p); }
// The last n < lanes() elements, then zeros.
template <class Weight>
HWY_INLINE VecF load_weight_part(const Weight* p, std::int64_t n) {
  if constexpr (std::is_same_v<Weight, float>) {
    return Part(n).load(p);
  } else {
    Weight padded[HWY_LANES(float)];
    for (std::int64_t i = 0; i < lanes(); ++i) padded[i] = i < n ? p[i] : Weight();
    return load_bf16(padded);
  }
}

template <class Weight>
struct DotProduct {
  const MatmulProblem& p;
  const float* a;
  const Weight* b;
  float* c;

  // Rows of b per task: about 256 KiB, so that further tiles of a find them in the L2 cache.
  std::int64_t task_columns() const {
    const auto bytes = p.inner * static_cast<std::int64_t>(sizeof(Weight));
    return std::clamp<std::int64_t>((256 << 10) / bytes / 24, 1, 6) * 24;
  }

  void run(Context& ctx) const {
    constexpr std::int64_t kRows = 256;
    const std::int64_t width = task_columns();
    const std::int64_t across = (p.columns + width - 1) / width, down = (p.rows + kRows - 1) / kRows;
    parallel_for(ctx, across * down, [&](std::int64_t task) HWY_ATTR {
      const std::int64_t column = task / down * width, row = task % down * kRows;
      block(row, std::min(row + kRows, p.rows), column, std::min(column + width, p.columns));
    });
  }

  // Tiles as large as the registers hold, for every row of a read is used once per column.
  void block(std::int64_t row, std::int64_t row_end, std::int64_t column, std::int64_t column_end) const {
    constexpr bool kWide = HWY_LANES(float) >= 16;  // 32 registers, otherwise 16
    constexpr int kMost = kWide ? 8 : 4;
    for (; row_end - row >= kMost; row += kMost) columns<kMost, 3>(row, column, column_end);
    for (; row_end - row >= 4; row += 4) columns<4, kWide ? 6 : 3>(row, column, column_end);
    switch (row_end - row) {
      case 3:
        return columns < 3, kWide ? 6 : 3 > (row, column, column_end);
      // Bound by memory, which gives most where it is read in one stream, in order. Narrow vectors need more
      // columns at once to hide the latency of their sums.
      case 2:
        return columns < 2, kWide ? 1 : 4 > (row, column, column_end);
      case 1:
        return columns < 1, kWide ? 1 : 8 > (row, column, column_end);
    }
  }

  template <int Rows, int Columns>
  void columns(std::int64_t row, std::int64_t column, std::int64_t column_end) const {
    for (; column + Columns <= column_end; column += Columns) tile<Rows, Columns>(row, column);
    for (; column < column_end; ++column) tile<Rows, 1>(row, column);
  }

  template <int Rows, int Columns>
  HWY_INLINE void tile(std::int64_t row, std::int64_t column) const {
    const float* pa = a + row * p.inner;
    const Weight* pb = b + column * p.inner;
    VecF sum[Rows][Columns];
    unroll<Rows>([&](auto r) HWY_ATTR { unroll<Columns>([&](auto j) HWY_ATTR { sum[r][j] = zero(); }); });
    std::int64_t k = 0;
    for (; k + lanes() <= p.inner; k += lanes()) {
      step<Rows, Columns>(
          sum, [&](auto r) HWY_ATTR { return hn::LoadU(Floats(), pa + r * p.inner + k); },
          [&](auto j) HWY_ATTR {
            const Weight* at = pb + j * p.inner + k;
            // The next tile's, no further than L2: rows a power of two apart meet in few sets of L1.
            __builtin_prefetch(at + Columns * p.inner, 0, 2);
            return load_weight(at);
          });
    }
    if (k < p.inner) {
      const Part part(p.inner - k);
      step<Rows, Columns>(
          sum, [&](auto r) HWY_ATTR { return part.load(pa + r * p.inner + k); },
          [&](auto j) HWY_ATTR { return load_weight_part(pb + j * p.inner + k, p.inner - k); });
    }
    const bool add = p.options.accumulate == ops::Accumulate::yes;
    unroll<Rows>([&](auto r) HWY_ATTR {
      unroll<Columns>([&](auto j) HWY_ATTR {
        float& out = c[(row + r) * p.columns + column + j];
        out = sum_lanes(sum[r][j]) + (add ? out : 0.0f);
      });
    });
  }

  template <int Rows, int Columns, class LoadA, class LoadB>
  HWY_INLINE static void step(VecF (&sum)[Rows][Columns], LoadA load_a, LoadB load_b) {
    VecF vb[Columns];
    unroll<Columns>([&](auto j) HWY_ATTR { vb[j] = load_b(j); });
    unroll<Rows>([&](auto r) HWY_ATTR {
      const VecF va = load_a(r);
      unroll<Columns>([&](auto j) HWY_ATTR { sum[r][j] = hn::MulAdd(va, vb[j], sum[r][j]); });
    });
  }
};

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
