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

template <int kRows>
void launch(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> operands,
            const Tensor& workspace) {
  const State& state = state_of(ctx);
  std::int64_t blocks = 0;
  const Parts parts = make_parts(operands, kColumns, blocks);
  Maps maps{.rows = map_of(operands[0].a, kRows), .weights = {}};
  for (std::size_t i = 0; i < operands.size(); ++i) maps.weights[i] = map_of(operands[i].b, kColumns);
  const auto chunks = ceil_div(p.inner, kDepth), total = chunks * blocks;
  const Cut cut{.chunks = static_cast<std::int32_t>(chunks),
                .total = static_cast<std::int32_t>(total),
                .shares = static_cast<std::int32_t>(std::min<std::int64_t>(total, state.multiprocessors))};
  const auto kernel = few_rows_kernel<kRows>;
  check_cuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Stage<kRows>::kSharedBytes),
      "matmul");
  launch_early(ctx, "matmul", kernel,
               {.grid = dim3(static_cast<unsigned>(cut.shares)),
                .threads = kThreads,
                .shared_bytes = Stage<kRows>::kSharedBytes},
               parts, maps, cut, Workspace{pointer<float>(workspace), state.meetings},
               static_cast<int>(p.rows), ctx.weights == Weights::constant);
}

}  // namespace

bool few_rows_supports(const MatmulProblem& p) {
  constexpr std::int64_t kParts = ops::kMostLinearParts, kMostChunks = std::int64_t{1} << 24;
  const auto blocks = ceil_div(p.columns, few_rows::kColumns);
  return p.rows <= kFewRows && !p.transpose_a && p.transpose_b && p.in == DType::bf16 && p.inner % 8 == 0 &&
         kParts * blocks <= State::kMeetings && kParts * blocks * ceil_div(p.inner, kDepth) <= kMostChunks;
}

Tensor make_few_rows_workspace(Context& ctx, const MatmulProblem& p) {
  const auto rows = p.rows <= 16 ? 16 : kFewRows;
  return ctx.scratch->make(DType::f32, {2 * state_of(ctx).multiprocessors, rows * kColumns});
}

void matmul_few_rows(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> operands,
                     const Tensor& workspace) {
  if (p.rows <= 16) return launch<16>(ctx, p, operands, workspace);
  launch<kFewRows>(ctx, p, operands, workspace);
}

}  // namespace braid::cuda
