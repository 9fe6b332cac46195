// f32 matrix products on the bf16 tiles of AMX, to f32 accuracy.
//
// Each f32 is the exact sum of three bf16 values (8 bits of significand each): a = a1 + a2 + a3. Of the nine
// products of parts, the six largest are summed, a1b1, a1b2, a2b1, a1b3, a2b2, a3b1; the rest lies below
// 2^-24. Tiles multiply bf16 some twenty times as fast as vectors multiply f32, so six products still win. An
// infinity in a or b gives NaN: what is left of it after its first part is not a number.
#pragma once
#include "braid/backends/cpu/matmul.h"

namespace braid::cpu {

// Whether this CPU has the tiles and the system lets this process use them.
bool amx_usable();

inline constexpr std::int64_t kAmxSide = 32;   // rows and columns of c that stay in registers
inline constexpr std::int64_t kAmxInner = 32;  // of K in one tile
inline constexpr std::int64_t kAmxTile = 512;  // bf16 values in one tile
inline constexpr std::int64_t kAmxParts = 3;
inline constexpr std::int64_t kAmxBlock = kAmxParts * 2 * kAmxTile;  // of 32 k of a packed panel

// How the product is cut: K into blocks, c's columns into chunks whose packed b is shared by the threads, c's
// rows into groups whose packed a stays in one thread's cache.
struct AmxPlan {
  std::int64_t inner, columns, rows;  // of one block, chunk and group; multiples of the tile sides
  std::int64_t a_panel() const { return inner / kAmxInner * kAmxBlock; }  // bf16 values, as b's
};
inline AmxPlan amx_plan(const MatmulProblem& p, std::int64_t threads) {
  const auto up = [](std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; };
  constexpr std::int64_t kInner = 768, kGroupBytes = 768 << 10, kChunkBytes = 32 << 20;
  AmxPlan plan{};
  const std::int64_t blocks = (p.inner + kInner - 1) / kInner;
  plan.inner = up((p.inner + blocks - 1) / blocks, kAmxInner);
  const std::int64_t bytes = 2 * kAmxParts * plan.inner;  // of one packed row of a or column of b
  plan.columns = std::min(up(p.columns, kAmxSide), kChunkBytes / bytes / kAmxSide * kAmxSide);
  const std::int64_t most = std::max(kAmxSide, kGroupBytes / bytes / kAmxSide * kAmxSide);
  const std::int64_t share = (p.rows + threads - 1) / threads, groups = (share + most - 1) / most;
  plan.rows = up((share + groups - 1) / groups, kAmxSide);
  return plan;
}

struct AmxScratch {
  Tensor a, b;  // bf16: one group per thread; one chunk
};
inline AmxScratch make_amx_scratch(Context& ctx, const MatmulProblem& p) {
  const std::int64_t threads = state_of(ctx).threads;
  const AmxPlan plan = amx_plan(p, threads);
  return {.a = ctx.scratch->make(DType::bf16, {threads, plan.rows / kAmxSide, plan.a_panel()}),
          .b = ctx.scratch->make(DType::bf16, {plan.columns / kAmxSide, plan.a_panel()})};
}

void matmul_amx(const Context& ctx, const MatmulProblem& p, float* c, const float* a, const float* b,
                const AmxScratch& scratch);

}  // namespace braid::cpu
