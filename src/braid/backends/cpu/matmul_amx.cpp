#include "braid/backends/cpu/matmul_amx.h"

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "braid/backends/cpu/parallel.h"

namespace braid::cpu {
namespace {

// One operand as its tiles see it: `outer` are rows of a or columns of b, at `data[outer · stride_outer + k ·
// stride_k]`.
struct Operand {
  const float* data;
  std::int64_t outer, inner;  // sizes
  bool inner_contiguous;      // else outer is
  std::int64_t stride;        // of the other one
};

// The memory layout of a tile: palette 1, sixteen rows of 64 bytes in each of the eight registers.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Sixteen 32-bit columns of sixteen rows change places.
void transpose(__m512i (&r)[16]) {
  __m512i t[16], u[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {  // the four 128-bit lanes change places with the four groups of rows
    const __m512i v0 = _mm512_shuffle_i32x4(u[i], u[4 + i], 0x88),
                  v1 = _mm512_shuffle_i32x4(u[i], u[4 + i], 0xdd);
    const __m512i v2 = _mm512_shuffle_i32x4(u[8 + i], u[12 + i], 0x88);
    const __m512i v3 = _mm512_shuffle_i32x4(u[8 + i], u[12 + i], 0xdd);
    r[i] = _mm512_shuffle_i32x4(v0, v2, 0x88);
    r[4 + i] = _mm512_shuffle_i32x4(v1, v3, 0x88);
    r[8 + i] = _mm512_shuffle_i32x4(v0, v2, 0xdd);
    r[12 + i] = _mm512_shuffle_i32x4(v1, v3, 0xdd);
  }
}

__mmask16 first(std::int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1);
}

// Each 16-bit value in the low half of 32 bits. The masked form: g++ 12 warns about the other.
__m512i widen(__m256i x) { return _mm512_maskz_cvtepu16_epi32(0xffff, x); }

// The nearest bf16 of sixteen f32, as f32: what is left of x after it is exact.
__m512 leading_part(__m512 x, __m256i& bf16) {
  bf16 = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x));
  return _mm512_castsi512_ps(_mm512_slli_epi32(widen(bf16), 16));
}

// Sixteen pairs (low, high) of neighbours in k as 32-bit elements, for each part.
void split_pairs(__m512 low, __m512 high, __m512i (&parts)[kAmxParts]) {
  for (auto& part : parts) {
    __m256i low16, high16;
    low = _mm512_sub_ps(low, leading_part(low, low16));
    high = _mm512_sub_ps(high, leading_part(high, high16));
    part = _mm512_or_si512(widen(low16), _mm512_slli_epi32(widen(high16), 16));
  }
}

// Reads elements [outer, outer + 16) × [k, k + 32) as sixteen rows of pairs in k. Rows are outer when k is
// contiguous in memory, else pairs of k.
void load_pairs(const Operand& x, std::int64_t outer, std::int64_t k, __m512i (&rows)[kAmxParts][16]) {
  const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  for (int i = 0; i < 16; ++i) {
    __m512 low = _mm512_setzero_ps(), high = _mm512_setzero_ps();
    if (x.inner_contiguous) {
      if (outer + i < x.outer) {
        const float* at = x.data + (outer + i) * x.stride + k;
        const __m512 a = _mm512_maskz_loadu_ps(first(x.inner - k), at);
        const __m512 b = _mm512_maskz_loadu_ps(first(x.inner - k - 16), at + 16);
        low = _mm512_permutex2var_ps(a, even, b);
        high = _mm512_permutex2var_ps(a, odd, b);
      }
    } else {
      const __mmask16 mask = first(x.outer - outer);
      const float* at = x.data + (k + 2 * i) * x.stride + outer;
      if (k + 2 * i < x.inner) low = _mm512_maskz_loadu_ps(mask, at);
      if (k + 2 * i + 1 < x.inner) high = _mm512_maskz_loadu_ps(mask, at + x.stride);
    }
    __m512i parts[kAmxParts];
    split_pairs(low, high, parts);
    for (std::int64_t part = 0; part < kAmxParts; ++part) rows[part][i] = parts[part];
  }
}

// Packs a panel: 32 outer elements over K in [begin, begin + inner), tiles ordered (block of k, part, half).
// Tiles of a have outer as rows, those of b pairs of k.
enum class TileRows : bool { outer, pairs };
void pack_panel(BFloat16* out, const Operand& x, TileRows tile_rows, std::int64_t outer, std::int64_t begin,
                std::int64_t inner) {
  const bool turn = x.inner_contiguous != (tile_rows == TileRows::outer);
  for (std::int64_t k = begin; k < begin + inner; k += kAmxInner) {
    for (std::int64_t half = 0; half < 2; ++half) {
      __m512i rows[kAmxParts][16];
      load_pairs(x, outer + 16 * half, k, rows);
      for (std::int64_t part = 0; part < kAmxParts; ++part) {
        if (turn) transpose(rows[part]);
        BFloat16* tile = out + (part * 2 + half) * kAmxTile;
        for (int i = 0; i < 16; ++i) _mm512_store_si512(tile + 32 * i, rows[part][i]);
      }
    }
    out += kAmxParts * 2 * kAmxTile;
  }
}

// The tile registers: c in 0 to 3, two of a in 4 and 5, two of b in 6 and 7.
void load_a(const BFloat16* block, int part) {
  _tile_loadd(4, block + part * 2 * kAmxTile, 64);
  _tile_loadd(5, block + part * 2 * kAmxTile + kAmxTile, 64);
}
void load_b(const BFloat16* block, int part) {
  _tile_loadd(6, block + part * 2 * kAmxTile, 64);
  _tile_loadd(7, block + part * 2 * kAmxTile + kAmxTile, 64);
}
void multiply() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

// Brings a sixth of the next block's tiles of both panels nearer while this one is multiplied.
void prefetch_sixth(const BFloat16* a, const BFloat16* b, int sixth) {
  constexpr int kLines = kAmxParts * 2 * kAmxTile / 32 / 6;
  for (int line = sixth * kLines; line < (sixth + 1) * kLines; ++line) {
    _mm_prefetch(reinterpret_cast<const char*>(a + line * 32), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(b + line * 32), _MM_HINT_T0);
  }
}

// c (32, 32), rows `stride` floats apart, = or += the product of two panels.
void panel_product(float* c, std::int64_t stride, bool add, const BFloat16* a, const BFloat16* b,
                   std::int64_t blocks) {
  const std::int64_t bytes = stride * 4;
  if (add) {
    _tile_loadd(0, c, bytes);
    _tile_loadd(1, c + 16, bytes);
    _tile_loadd(2, c + 16 * stride, bytes);
    _tile_loadd(3, c + 16 * stride + 16, bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  constexpr std::int64_t step = kAmxParts * 2 * kAmxTile;
  for (std::int64_t i = 0; i < blocks; ++i, a += step, b += step) {
    load_a(a, 0);
    load_b(b, 2);
    prefetch_sixth(a + step, b + step, 0);
    multiply();
    load_b(b, 1);
    prefetch_sixth(a + step, b + step, 1);
    multiply();
    load_b(b, 0);
    prefetch_sixth(a + step, b + step, 2);
    multiply();
    load_a(a, 1);
    prefetch_sixth(a + step, b + step, 3);
    multiply();
    load_a(a, 2);
    prefetch_sixth(a + step, b + step, 4);
    multiply();
    load_a(a, 1);
    load_b(b, 1);
    prefetch_sixth(a + step, b + step, 5);
    multiply();
  }
  _tile_stored(0, c, bytes);
  _tile_stored(1, c + 16, bytes);
  _tile_stored(2, c + 16 * stride, bytes);
  _tile_stored(3, c + 16 * stride + 16, bytes);
}

// The same where c reaches only (rows, columns) of the panel.
void edge_product(float* c, std::int64_t stride, std::int64_t rows, std::int64_t columns, bool add,
                  const BFloat16* a, const BFloat16* b, std::int64_t blocks) {
  alignas(64) float whole[kAmxSide * kAmxSide];
  panel_product(whole, kAmxSide, false, a, b, blocks);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < columns; ++j) {
      float& to = c[r * stride + j];
      to = add ? to + whole[r * kAmxSide + j] : whole[r * kAmxSide + j];
    }
  }
}

struct Product {
  const Context& ctx;
  const MatmulProblem& p;
  AmxPlan plan;
  Operand a, b;
  float* c;
  BFloat16 *packed_a, *packed_b;

  std::int64_t panels(std::int64_t n) const { return (n + kAmxSide - 1) / kAmxSide; }

  // One block of K against one chunk of columns, all rows.
  void block(std::int64_t k, std::int64_t column, bool add) const {
    const std::int64_t columns = std::min(plan.columns, p.columns - column);
    const std::int64_t inner = std::min(plan.inner, (p.inner - k + kAmxInner - 1) / kAmxInner * kAmxInner);
    parallel_for(ctx, panels(columns), [&](std::int64_t j) {
      pack_panel(packed_b + j * plan.a_panel(), b, TileRows::pairs, column + j * kAmxSide, k, inner);
    });
    parallel_for(ctx, (p.rows + plan.rows - 1) / plan.rows, [&](std::int64_t group, int thread) {
      BFloat16* mine = packed_a + thread * (plan.rows / kAmxSide) * plan.a_panel();
      const std::int64_t row = group * plan.rows, rows = std::min(plan.rows, p.rows - row);
      for (std::int64_t i = 0; i < panels(rows); ++i) {
        pack_panel(mine + i * plan.a_panel(), a, TileRows::outer, row + i * kAmxSide, k, inner);
      }
      const TileConfig config;
      _tile_loadconfig(&config);
      for (std::int64_t j = 0; j < panels(columns); ++j) {
        for (std::int64_t i = 0; i < panels(rows); ++i) {
          const std::int64_t r = row + i * kAmxSide, n = column + j * kAmxSide;
          const std::int64_t high = std::min(kAmxSide, p.rows - r), wide = std::min(kAmxSide, p.columns - n);
          const BFloat16 *pa = mine + i * plan.a_panel(), *pb = packed_b + j * plan.a_panel();
          float* at = c + r * p.columns + n;
          if (high == kAmxSide && wide == kAmxSide) {
            panel_product(at, p.columns, add, pa, pb, inner / kAmxInner);
          } else {
            edge_product(at, p.columns, high, wide, add, pa, pb, inner / kAmxInner);
          }
        }
      }
      _tile_release();
    });
  }
};

}  // namespace

bool amx_usable() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
         ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

void matmul_amx(const Context& ctx, const MatmulProblem& p, float* c, const float* a, const float* b,
                const AmxScratch& scratch) {
  const bool ta = p.options.a == ops::Transpose::yes, tb = p.options.b == ops::Transpose::yes;
  const Product product{.ctx = ctx,
                        .p = p,
                        .plan = amx_plan(p, state_of(ctx).threads),
                        .a = {a, p.rows, p.inner, !ta, ta ? p.rows : p.inner},
                        .b = {b, p.columns, p.inner, tb, tb ? p.inner : p.columns},
                        .c = c,
                        .packed_a = scratch.a.as<BFloat16>(),
                        .packed_b = scratch.b.as<BFloat16>()};
  for (std::int64_t column = 0; column < p.columns; column += product.plan.columns) {
    for (std::int64_t k = 0; k < p.inner; k += product.plan.inner) {
      product.block(k, column, k > 0 || p.options.accumulate == ops::Accumulate::yes);
    }
  }
}

}  // namespace braid::cpu
