// How a matrix product is computed, decided from its sizes alone.
#pragma once
#include <algorithm>

#include "braid/backends/cpu/state.h"
#include "braid/ops/matmul.h"

namespace braid::cpu {

// dot:    rows of a against rows of b, one vector accumulator per element of c; reads b once.
// packed: panels of a and b, one accumulator per element, block after block of K; bf16 widened on the way.
// amx:    f32 as sums of bf16 parts, on tiles; to f32 accuracy.
// library: oneDNN's sgemm, whose order of summation may depend on the other rows.
enum class MatmulPath : std::uint8_t { dot, packed, amx, library };

struct MatmulProblem {
  std::int64_t rows, columns, inner;  // c (rows, columns), sum over inner
  ops::MatmulOptions options;
  DType weight;
  Arithmetic arithmetic;
  bool amx;  // usable here
};

inline MatmulProblem matmul_problem(const Context& ctx, const ConstTensor& c, const ConstTensor& a,
                                    const ConstTensor& b, ops::MatmulOptions options) {
  return {.rows = c.shape[0],
          .columns = c.shape[1],
          .inner = a.shape[options.a == ops::Transpose::yes ? 0 : 1],
          .options = options,
          .weight = b.dtype,
          .arithmetic = ctx.arithmetic,
          .amx = state_of(ctx).amx};
}

// In strict mode the choice must not look at `rows`. Measured in bench/results/cpu_matmul_choice.md: oneDNN
// is the fastest but for tall, narrow gradients of weights, dW = dyᵀ · x.
constexpr MatmulPath choose_matmul(const MatmulProblem& p) {
  constexpr std::int64_t kFewRows = 16, kTall = 2048, kNarrow = 768;
  const bool ta = p.options.a == ops::Transpose::yes, tb = p.options.b == ops::Transpose::yes;
  const bool strict = p.arithmetic == Arithmetic::strict;
  if (!ta && tb && (strict || p.rows <= kFewRows)) return MatmulPath::dot;
  constexpr std::int64_t kWorthTiles = 1 << 22, kTileSides = 64;
  const bool tiles = std::min({p.rows, p.columns, p.inner}) >= kTileSides &&
                     p.rows * p.columns * p.inner >= kWorthTiles && p.weight == DType::f32;
  if (p.amx && !strict && tiles) return MatmulPath::amx;
  const bool tall = ta && p.rows >= kTall && p.columns <= kNarrow;
  return strict || tall || p.weight == DType::bf16 ? MatmulPath::packed : MatmulPath::library;
}

inline constexpr std::int64_t kBlockInner = 384;              // K is cut here: part of the arithmetic
inline constexpr std::int64_t kRowStride = kBlockInner + 16;  // of packed rows of a
inline constexpr std::int64_t kBlockRows = 504;  // of a per block, divisible by every tile height
inline constexpr std::int64_t kWidestTile = 32;

// The part of b packed at once, small enough for the L2 caches: `columns` wide, `steps` blocks of K deep.
struct PackedPart {
  std::int64_t columns, steps, all_steps;
  // Block `step` begins here; the last one ends at begin(all_steps) = inner.
  std::int64_t begin(std::int64_t inner, std::int64_t step) const { return inner * step / all_steps; }
};

inline PackedPart packed_part(const MatmulProblem& p) {
  constexpr std::int64_t kMostColumns = 2048, kMostElements = 768 << 10;
  PackedPart part;
  part.all_steps = (p.inner + kBlockInner - 1) / kBlockInner;
  part.columns = std::min(kMostColumns, (p.columns + kWidestTile - 1) / kWidestTile * kWidestTile);
  part.steps = std::clamp<std::int64_t>(kMostElements / (part.columns * kBlockInner), 1, part.all_steps);
  return part;
}

struct PackedScratch {
  Tensor a, b;  // a: one block per thread
};

inline PackedScratch make_matmul_scratch(Context& ctx, const MatmulProblem& p) {
  const PackedPart part = packed_part(p);
  return {.a = ctx.scratch->make(DType::f32, {state_of(ctx).threads, kBlockRows, kRowStride}),
          .b = ctx.scratch->make(DType::f32, {part.steps * kBlockInner, part.columns})};
}

}  // namespace braid::cpu
