#include "braid/backends/cuda/matmul/few_rows.cuh"
#include "braid/backends/cuda/tensor_map.h"

namespace braid::cuda {
namespace {

using namespace few_rows;

CUtensorMap map_of(const ConstTensor& t, int rows) {
  const auto inner = static_cast<std::uint64_t>(t.shape[1]);
  return make_tensor_map({.data = t.data,
                          .shape = {inner, static_cast<std::uint64_t>(t.shape[0])},
                          .stride_bytes = {inner * 2},
                          .box = {kDepth, static_cast<std::uint32_t>(rows)}});
}

template <int kRows, int kTiles>
void launch(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> operands) {
  using R = Ring<kRows, kTiles>;
  std::int64_t blocks = 0;
  const Parts parts = make_parts(operands, R::kColumns, blocks);
  Maps maps{.rows = map_of(operands[0].a, kRows), .weights = {}};
  for (std::size_t i = 0; i < operands.size(); ++i) maps.weights[i] = map_of(operands[i].b, R::kColumns);
  const auto kernel = few_rows_kernel<kRows, kTiles>;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, R::kSharedBytes),
             "matmul");
  launch_early(
      ctx, "matmul", kernel,
      {.grid = dim3(static_cast<unsigned>(blocks)), .threads = kThreads, .shared_bytes = R::kSharedBytes},
      parts, maps, static_cast<int>(p.rows), static_cast<int>(p.inner), ctx.weights == Weights::constant);
}

// Blocks of so many columns.
std::int64_t blocks_of(std::span<const MatmulOperands> operands, int columns) {
  std::int64_t blocks = 0;
  for (const auto& o : operands) blocks += ceil_div(o.c.shape[1], columns);
  return blocks;
}

// The narrowest block with which all blocks run at once, else the widest.
template <int kRows, int kTiles, int... kWider>
void launch_narrowest(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> operands) {
  if constexpr (sizeof...(kWider) != 0) {
    if (blocks_of(operands, 16 * kTiles) > state_of(ctx).multiprocessors) {
      return launch_narrowest<kRows, kWider...>(ctx, p, operands);
    }
  }
  launch<kRows, kTiles>(ctx, p, operands);
}

}  // namespace

bool few_rows_supports(const MatmulProblem& p) {
  constexpr std::int64_t kMostInner = std::int64_t{1} << 24;
  return p.rows <= kFewRows && !p.transpose_a && p.transpose_b && p.in == DType::bf16 && p.inner % 8 == 0 &&
         p.inner <= kMostInner;
}

void matmul_few_rows(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> operands) {
  if (p.rows <= 16) return launch_narrowest<16, 1, 2, 4, 6, 9, 11>(ctx, p, operands);
  launch_narrowest<kFewRows, 1, 2, 4, 6>(ctx, p, operands);
}

}  // namespace braid::cuda
