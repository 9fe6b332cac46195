#include "braid/backends/cuda/matmul/few_rows.cuh"
#include "braid/backends/cuda/tensor_map.h"

namespace braid::cuda {
namespace {

using namespace few_rows;

template <int kRows, bool kGated>
void launch(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> operands) {
  constexpr int kParts = kGated ? 2 : 1;
  std::vector<std::int64_t> columns;
  for (const auto& o : operands) columns.push_back(o.c.shape[1]);
  const Cut cut = choose_cut(columns, p.inner, kRows, kGated, state_of(ctx).multiprocessors);
  std::int64_t tiles = 0;
  const Parts parts = make_parts(operands, cut.width / kParts, tiles);
  Maps maps{.rows = make_matrix_map(operands[0].a, kDepth, kRows), .weights = {}};
  for (std::size_t i = 0; i < operands.size(); ++i) {
    maps.weights[i] = make_matrix_map(operands[i].b, kDepth, cut.width / kParts);
  }
  visit_units<kParts>(cut.units, [&]<int kUnits>() {
    const auto kernel = few_rows_kernel<kRows, kGated, kUnits>;
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostSharedBytes),
               "matmul");
    launch_early(ctx, "matmul", kernel,
                 {.grid = dim3(static_cast<unsigned>(cut.clusters * cut.split)),
                  .threads = kThreads,
                  .shared_bytes = static_cast<std::size_t>(cut.shared_bytes(kRows)),
                  .cluster = cut.split},
                 parts, maps, cut, static_cast<int>(p.rows), ctx.fetch == Fetch::ahead);
  });
}

template <bool kGated>
void launch(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> operands) {
  if (p.rows <= 16) return launch<16, kGated>(ctx, p, operands);
  launch<kFewRows, kGated>(ctx, p, operands);
}

}  // namespace

bool few_rows_supports(const MatmulProblem& p) {
  constexpr std::int64_t kMost = std::int64_t{1} << 30, kMostProduct = std::int64_t{1} << 38;
  return p.rows <= kFewRows && !p.transpose_a && p.transpose_b && p.in == DType::bf16 && p.inner % 8 == 0 &&
         p.columns <= kMost && p.inner <= kMost && p.columns * p.inner <= kMostProduct;
}

void matmul_few_rows(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> operands) {
  launch<false>(ctx, p, operands);
}

void swiglu_few_rows(const Context& ctx, const MatmulProblem& p, const MatmulOperands& operands) {
  launch<true>(ctx, p, {&operands, 1});
}

}  // namespace braid::cuda
