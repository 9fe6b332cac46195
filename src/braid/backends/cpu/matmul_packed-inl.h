// c = op(a) · op(b) over packed panels (Goto & van de Geijn 2008).
// An element of c is one chain of multiply-adds per block of K, the blocks added in order, whatever the
// other rows, columns and threads.
#if defined(BRAID_BACKENDS_CPU_MATMUL_PACKED_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BRAID_BACKENDS_CPU_MATMUL_PACKED_INL_H
#undef BRAID_BACKENDS_CPU_MATMUL_PACKED_INL_H
#else
#define BRAID_BACKENDS_CPU_MATMUL_PACKED_INL_H
#endif

#include <cstring>

#include "braid/backends/cpu/matmul.h"
#include "braid/backends/cpu/parallel.h"
#include "braid/backends/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

template <class Weight>
struct PackedProduct {
  const MatmulProblem& p;
  const float* a;
  const Weight* b;
  float* c;
  PackedScratch scratch;

  bool a_transposed() const { return p.options.a == ops::Transpose::yes; }

  void run(Context& ctx) const {
    const PackedPart part = packed_part(p);
    for (std::int64_t left = 0; left < p.columns; left += part.columns) {
      for (std::int64_t step = 0; step < part.all_steps; step += part.steps) {
        multiply_part(ctx, {.left = left,
                            .right = std::min(left + part.columns, p.columns),
                            .step = step,
                            .last_step = std::min(step + part.steps, part.all_steps),
                            .part = part});
      }
    }
  }

  // The part of b at hand: columns [left, right), blocks [step, last_step) of K.
  struct Range {
    std::int64_t left, right, step, last_step;
    PackedPart part;
  };

  void multiply_part(Context& ctx, const Range& range) const {
    const std::int64_t panels = (range.right - range.left + kTileColumns - 1) / kTileColumns;
    parallel_for(ctx, panels, [&](std::int64_t i) HWY_ATTR { pack_panel(range, i); });
    // Blocks of whole tiles of rows, of even size, a multiple of the threads.
    const std::int64_t tiles = (p.rows + kTileRows - 1) / kTileRows;
    const std::int64_t most = kBlockRows / kTileRows * state_of(ctx).threads;
    const std::int64_t blocks = std::min(tiles, (tiles + most - 1) / most * state_of(ctx).threads);
    parallel_for(ctx, blocks, [&](std::int64_t i, int thread) HWY_ATTR {
      float* rows = scratch.a.as<float>() + thread * kBlockRows * kRowStride;
      const std::int64_t bottom = std::min(p.rows, tiles * (i + 1) / blocks * kTileRows);
      for (std::int64_t step = range.step; step < range.last_step; ++step) {
        multiply_block(rows, tiles * i / blocks * kTileRows, bottom, range, step);
      }
    });
  }

  // Panel i of the range: kTileColumns floats per k, zeros beyond the right edge.
  void pack_panel(const Range& range, std::int64_t i) const {
    const std::int64_t column = range.left + i * kTileColumns;
    const std::int64_t width = std::min<std::int64_t>(kTileColumns, range.right - column);
    const std::int64_t begin = range.part.begin(p.inner, range.step);
    const std::int64_t end = range.part.begin(p.inner, range.last_step);
    float* out = scratch.b.as<float>() + i * kTileColumns * (end - begin);
    if (p.options.b == ops::Transpose::yes) return pack_transposed(out, column, width, begin, end);
    for (std::int64_t k = begin; k < end; ++k, out += kTileColumns) {
      const Weight* in = b + k * p.columns + column;
      for (std::int64_t j = 0; j < width; ++j) out[j] = static_cast<float>(in[j]);
      for (std::int64_t j = width; j < kTileColumns; ++j) out[j] = 0.0f;
    }
  }

  // Columns of bᵀ are rows of b.
  void pack_transposed(float* out, std::int64_t column, std::int64_t width, std::int64_t begin,
                       std::int64_t end) const {
    constexpr std::int64_t kRun = 16;  // k at a time: one cache line per row
    for (; begin < end; begin += kRun, out += kRun * kTileColumns) {
      const std::int64_t run = std::min(kRun, end - begin);
      for (std::int64_t j = 0; j < kTileColumns; ++j) {
        const Weight* in = b + (column + std::min(j, width - 1)) * p.inner + begin;
        for (std::int64_t k = 0; k < run; ++k) out[k * kTileColumns + j] = static_cast<float>(in[k]);
      }
    }
  }

  using RowLayout = TileLayout<kRowStride, 1>;
  using ColumnLayout = TileLayout<1, kTileRows>;

  // Rows [top, bottom) of a, [begin, end) of K. Plain a keeps its rows; transposed a, tiles of kTileRows.
  void pack_rows(float* out, std::int64_t top, std::int64_t bottom, std::int64_t begin,
                 std::int64_t end) const {
    const std::int64_t inner = end - begin;
    if (!a_transposed()) {
      const std::int64_t padded = (bottom - top + kTileRows - 1) / kTileRows * kTileRows;
      for (std::int64_t r = 0; r < padded; ++r) {
        const std::int64_t row = std::min(top + r, bottom - 1);
        std::memcpy(out + r * kRowStride, a + row * p.inner + begin, static_cast<std::size_t>(inner) * 4);
      }
      return;
    }
    for (std::int64_t k = begin; k < end; ++k) {
      const float* in = a + k * p.rows;
      float* tile = out + (k - begin) * kTileRows;
      for (std::int64_t row = top; row < bottom; row += kTileRows, tile += kTileRows * kRowStride) {
        for_vectors(std::min<std::int64_t>(kTileRows, bottom - row),
                    [&](std::int64_t r, auto io) HWY_ATTR { io.store(tile + r, io.load(in + row + r)); });
      }
    }
  }

  void multiply_block(float* rows, std::int64_t top, std::int64_t bottom, const Range& range,
                      std::int64_t step) const {
    const std::int64_t first = range.part.begin(p.inner, range.step);
    const std::int64_t depth = range.part.begin(p.inner, range.last_step) - first;
    const std::int64_t begin = range.part.begin(p.inner, step), end = range.part.begin(p.inner, step + 1);
    pack_rows(rows, top, bottom, begin, end);
    const bool add = step > 0 || p.options.accumulate == ops::Accumulate::yes;
    const auto product = a_transposed() ? &tile_product<ColumnLayout> : &tile_product<RowLayout>;
    for (std::int64_t column = range.left; column < range.right; column += kTileColumns) {
      const float* panel =
          scratch.b.as<float>() + (column - range.left) * depth + (begin - first) * kTileColumns;
      for (std::int64_t row = top; row < bottom; row += kTileRows) {
        product(end - begin, rows + (row - top) * kRowStride, panel, c + row * p.columns + column, p.columns,
                bottom - row, range.right - column, add);
      }
    }
  }
};

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
