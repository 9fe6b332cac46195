#include "braid/backends/cpu/matmul_amx.h"

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

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

// All elements: g++ 12 warns about the forms without a mask.
constexpr __mmask16 kAll16 = 0xffff;
constexpr __mmask8 kAll8 = 0xff;

// A line of 64 bytes into the L1 cache, into the L2 cache.
void fetch(const void* line) { _mm_prefetch(static_cast<const char*>(line), _MM_HINT_T0); }
void fetch_far(const void* line) { _mm_prefetch(static_cast<const char*>(line), _MM_HINT_T1); }

// Sixteen 32-bit columns of sixteen rows change places.
void transpose(__m512i (&r)[16]) {
  __m512i t[16], u[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_maskz_unpacklo_epi32(kAll16, r[i], r[i + 1]);
    t[i + 1] = _mm512_maskz_unpackhi_epi32(kAll16, r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    u[i] = _mm512_maskz_unpacklo_epi64(kAll8, t[i], t[i + 2]);
    u[i + 1] = _mm512_maskz_unpackhi_epi64(kAll8, t[i], t[i + 2]);
    u[i + 2] = _mm512_maskz_unpacklo_epi64(kAll8, t[i + 1], t[i + 3]);
    u[i + 3] = _mm512_maskz_unpackhi_epi64(kAll8, t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {  // the four 128-bit lanes change places with the four groups of rows
    const __m512i v0 = _mm512_maskz_shuffle_i32x4(kAll16, u[i], u[4 + i], 0x88),
                  v1 = _mm512_maskz_shuffle_i32x4(kAll16, u[i], u[4 + i], 0xdd);
    const __m512i v2 = _mm512_maskz_shuffle_i32x4(kAll16, u[8 + i], u[12 + i], 0x88);
    const __m512i v3 = _mm512_maskz_shuffle_i32x4(kAll16, u[8 + i], u[12 + i], 0xdd);
    r[i] = _mm512_maskz_shuffle_i32x4(kAll16, v0, v2, 0x88);
    r[4 + i] = _mm512_maskz_shuffle_i32x4(kAll16, v1, v3, 0x88);
    r[8 + i] = _mm512_maskz_shuffle_i32x4(kAll16, v0, v2, 0xdd);
    r[12 + i] = _mm512_maskz_shuffle_i32x4(kAll16, v1, v3, 0xdd);
  }
}

__mmask16 first(std::int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1);
}

// Which 16-bit values to take of two vectors of 32: the upper halves of one's elements then the other's, or
// by turns.
__m512i upper_halves() {
  alignas(64) static constexpr auto order = [] {
    std::array<std::int16_t, 32> o{};
    for (std::int16_t i = 0; i < 32; ++i) o[i] = static_cast<std::int16_t>(2 * i + 1);
    return o;
  }();
  return _mm512_load_si512(order.data());
}
__m512i upper_pairs() {
  alignas(64) static constexpr auto order = [] {
    std::array<std::int16_t, 32> o{};
    for (std::int16_t i = 0; i < 32; ++i) o[i] = static_cast<std::int16_t>(i / 2 * 2 + 1 + i % 2 * 32);
    return o;
  }();
  return _mm512_load_si512(order.data());
}

// Parts of the pairs (x, y), every value of a part in the upper half of its element, become tile rows:
// `order` says which half goes where.
void store_parts(BFloat16* row, __m512 x, __m512 y, __m512i order) {
  const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(-0x10000);
  const auto nearest = [&](__m512 v) {  // bf16, halves away from zero
    return _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(v), half), upper);
  };
  for (std::int64_t part = 0; part + 1 < kAmxParts; ++part, row += 2 * kAmxTile) {
    const __m512i px = nearest(x), py = nearest(y);
    _mm512_store_si512(row, _mm512_permutex2var_epi16(px, order, py));
    x = _mm512_sub_ps(x, _mm512_castsi512_ps(px));  // exact
    y = _mm512_sub_ps(y, _mm512_castsi512_ps(py));
  }
  _mm512_store_si512(row, _mm512_permutex2var_epi16(_mm512_castps_si512(x), order, _mm512_castps_si512(y)));
}

// Tiles of a have outer as rows, of 32 k; those of b pairs of k, of 16 outer.
enum class TileRows : bool { outer, pairs };

// Packs the tiles of elements [outer, outer + 16) × [k, k + 32), one per part.
void pack_tiles(BFloat16* out, const Operand& x, TileRows tile_rows, std::int64_t outer, std::int64_t k) {
  // Rows of 16 k from k on and from k + 16 on; or, where outer is contiguous, rows k to k + 15 and the rest.
  __m512i low[16], high[16];
  const std::int64_t rest = x.inner - k;
  if (x.inner_contiguous) {
    const __mmask16 mask = first(rest), mask16 = first(rest - 16);
    for (std::int64_t i = 0; i < 16; ++i) {
      const bool inside = outer + i < x.outer;
      const float* at = x.data + (outer + i) * x.stride + k;
      low[i] = _mm512_maskz_loadu_epi32(inside ? mask : 0, at);
      high[i] = _mm512_maskz_loadu_epi32(inside ? mask16 : 0, at + 16);
      fetch_far(at + kAmxSide * x.stride);  // the next panel's
      fetch_far(at + kAmxSide * x.stride + 16);
    }
  } else {
    const __mmask16 mask = first(x.outer - outer);
    for (std::int64_t i = 0; i < 16; ++i) {
      const float* at = x.data + (k + i) * x.stride + outer;
      low[i] = _mm512_maskz_loadu_epi32(i < rest ? mask : 0, at);
      high[i] = _mm512_maskz_loadu_epi32(i + 16 < rest ? mask : 0, at + 16 * x.stride);
      fetch_far(at + 32 * x.stride);  // the next k's
      fetch_far(at + 48 * x.stride);
    }
  }
  if (x.inner_contiguous != (tile_rows == TileRows::outer)) {
    transpose(low);
    transpose(high);
  }
  const auto store = [&](std::int64_t row, __m512i a, __m512i b, __m512i order) {
    store_parts(out + 32 * row, _mm512_castsi512_ps(a), _mm512_castsi512_ps(b), order);
  };
  if (tile_rows == TileRows::outer) {
    for (std::int64_t i = 0; i < 16; ++i) store(i, low[i], high[i], upper_halves());
  } else {
    for (std::int64_t i = 0; i < 8; ++i) {
      store(i, low[2 * i], low[2 * i + 1], upper_pairs());
      store(8 + i, high[2 * i], high[2 * i + 1], upper_pairs());
    }
  }
}

// Packs one block of 32 k of a panel of 32 outer elements: tiles ordered (part, half).
void pack_block(BFloat16* out, const Operand& x, TileRows tile_rows, std::int64_t outer, std::int64_t k) {
  pack_tiles(out, x, tile_rows, outer, k);
  pack_tiles(out + kAmxTile, x, tile_rows, outer + 16, k);
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
void multiply_tiles() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

// The part of c, up to (32, 32), rows `stride` floats apart, that is or is added a product of two panels.
struct Target {
  float* c;
  std::int64_t stride, rows, columns;
  const float* product;  // (32, 32)
  bool add;

  void prefetch(std::int64_t row) const {
    fetch(c + row * stride);
    fetch(c + row * stride + 16);
  }
  void write(std::int64_t row) const {
    for (std::int64_t j = 0; j < kAmxSide; j += 16) {
      const __mmask16 mask = first(columns - j);
      float* to = c + row * stride + j;
      __m512 x = _mm512_load_ps(product + row * kAmxSide + j);
      if (add) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, to));
      _mm512_mask_storeu_ps(to, mask, x);
    }
  }
};

// What is done during a product, evenly over its blocks of K, while the tiles are busy.
struct Meanwhile {
  Target last, now;         // the product before this one is written; what this one is for is brought nearer
  const BFloat16* next_b;   // as is the next panel of b, if any:
  std::int64_t begin, end;  // these lines of each of its blocks

  void run(std::int64_t block, std::int64_t blocks) const {
    for (std::int64_t r = last.rows * block / blocks; r < last.rows * (block + 1) / blocks; ++r)
      last.write(r);
    for (std::int64_t r = now.rows * block / blocks; r < now.rows * (block + 1) / blocks; ++r)
      now.prefetch(r);
    if (next_b == nullptr) return;
    for (std::int64_t line = begin; line < end; ++line) fetch_far(next_b + block * kAmxBlock + line * 32);
  }
};

// Brings a sixth of a block of both panels nearer.
void fetch_sixth(const BFloat16* a, const BFloat16* b, std::int64_t sixth) {
  constexpr std::int64_t kLines = kAmxBlock / 32 / 6;
  for (std::int64_t line = sixth * kLines; line < (sixth + 1) * kLines; ++line) {
    fetch(a + line * 32);
    fetch(b + line * 32);
  }
}

// out (32, 32) = the product of two panels. Without the fetches the tiles wait: both panels come from the L2
// cache at 32 bytes a cycle.
void panel_product(float* out, const BFloat16* a, const BFloat16* b, std::int64_t blocks,
                   const Meanwhile& meanwhile) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const BFloat16* begin_b = b;  // where the next product begins, which has the same b and the a that follows
  for (std::int64_t i = 0; i < blocks; ++i, a += kAmxBlock, b += kAmxBlock) {
    const BFloat16 *next_a = a + kAmxBlock, *next_b = i + 1 < blocks ? b + kAmxBlock : begin_b;
    load_a(a, 0);
    load_b(b, 2);
    fetch_sixth(next_a, next_b, 0);
    multiply_tiles();
    load_b(b, 1);
    fetch_sixth(next_a, next_b, 1);
    multiply_tiles();
    load_b(b, 0);
    fetch_sixth(next_a, next_b, 2);
    multiply_tiles();
    load_a(a, 2);
    fetch_sixth(next_a, next_b, 3);
    multiply_tiles();
    meanwhile.run(i, blocks);
    load_a(a, 1);
    fetch_sixth(next_a, next_b, 4);
    multiply_tiles();
    load_b(b, 1);
    fetch_sixth(next_a, next_b, 5);
    multiply_tiles();
  }
  _tile_stored(0, out, 4 * kAmxSide);
  _tile_stored(1, out + 16, 4 * kAmxSide);
  _tile_stored(2, out + 16 * kAmxSide, 4 * kAmxSide);
  _tile_stored(3, out + 16 * kAmxSide + 16, 4 * kAmxSide);
}

struct Product {
  const Context& ctx;
  const MatmulProblem& p;
  AmxPlan plan;
  Operand a, b;
  float* c;
  BFloat16 *packed_a, *packed_b;

  // Of K and of the columns of c: what packed_b holds at a time.
  struct Part {
    std::int64_t k, blocks, column, panels;
    bool add;  // to what is in c
  };
  static std::int64_t panels(std::int64_t n) { return (n + kAmxSide - 1) / kAmxSide; }

  void pack_b(const Part& part) const {
    const auto pack = [&](std::int64_t panel, std::int64_t block) {
      pack_block(packed_b + panel * plan.a_panel() + block * kAmxBlock, b, TileRows::pairs,
                 part.column + panel * kAmxSide, part.k + block * kAmxInner);
    };
    if (b.inner_contiguous) {
      parallel_for(ctx, part.panels, [&](std::int64_t panel) {
        for (std::int64_t block = 0; block < part.blocks; ++block) pack(panel, block);
      });
    } else {
      parallel_for(ctx, part.blocks, [&](std::int64_t block) {
        for (std::int64_t panel = 0; panel < part.panels; ++panel) pack(panel, block);
      });
    }
  }

  void pack_a(BFloat16* out, const Part& part, std::int64_t row, std::int64_t count) const {
    const auto pack = [&](std::int64_t panel, std::int64_t block) {
      pack_block(out + panel * plan.a_panel() + block * kAmxBlock, a, TileRows::outer, row + panel * kAmxSide,
                 part.k + block * kAmxInner);
    };
    if (a.inner_contiguous) {
      for (std::int64_t panel = 0; panel < count; ++panel) {
        for (std::int64_t block = 0; block < part.blocks; ++block) pack(panel, block);
      }
    } else {
      for (std::int64_t block = 0; block < part.blocks; ++block) {
        for (std::int64_t panel = 0; panel < count; ++panel) pack(panel, block);
      }
    }
  }

  // All panels of b against `count` panels of a from `row` on.
  void multiply(const BFloat16* from_a, const Part& part, std::int64_t row, std::int64_t count) const {
    alignas(64) float products[2][kAmxSide * kAmxSide];
    const TileConfig config;
    _tile_loadconfig(&config);
    Target last{};
    for (std::int64_t task = 0; task < part.panels * count; ++task) {
      const std::int64_t i = task % count, j = task / count;
      const std::int64_t r = row + i * kAmxSide, column = part.column + j * kAmxSide;
      const BFloat16* from_b = packed_b + j * plan.a_panel();
      const Target now{.c = c + r * p.columns + column,
                       .stride = p.columns,
                       .rows = std::min(kAmxSide, p.rows - r),
                       .columns = std::min(kAmxSide, p.columns - column),
                       .product = products[task % 2],
                       .add = part.add};
      constexpr std::int64_t kLines = kAmxBlock / 32;
      panel_product(products[task % 2], from_a + i * plan.a_panel(), from_b, part.blocks,
                    {.last = last,
                     .now = now,
                     .next_b = j + 1 < part.panels ? from_b + plan.a_panel() : nullptr,
                     .begin = kLines * i / count,
                     .end = kLines * (i + 1) / count});
      last = now;
    }
    for (std::int64_t r = 0; r < last.rows; ++r) last.write(r);
    _tile_release();
  }

  void run(const Part& part) const {
    pack_b(part);
    const auto group = [&](std::int64_t task, int thread) {
      const std::int64_t row = task * plan.rows, count = panels(std::min(plan.rows, p.rows - row));
      BFloat16* mine = packed_a + thread * (plan.rows / kAmxSide) * plan.a_panel();
      pack_a(mine, part, row, count);
      multiply(mine, part, row, count);
    };
    parallel_for(ctx, (p.rows + plan.rows - 1) / plan.rows, group, Schedule::next_free);
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
      const std::int64_t columns = std::min(product.plan.columns, p.columns - column);
      product.run({.k = k,
                   .blocks = (std::min(product.plan.inner, p.inner - k) + kAmxInner - 1) / kAmxInner,
                   .column = column,
                   .panels = Product::panels(columns),
                   .add = k > 0 || p.options.accumulate == ops::Accumulate::yes});
    }
  }
}

}  // namespace braid::cpu
