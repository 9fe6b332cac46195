#include "braid/backends/cuda/column_sums.h"
#include "braid/backends/cuda/matmul/resident/backward.cuh"
#include "braid/backends/cuda/matmul/resident/forward.cuh"
#include "braid/backends/cuda/matmul/resident/resident.h"
#include "braid/backends/cuda/tensor_map.h"

namespace braid::cuda {
namespace {

using namespace resident;

// Fewer rows do not pay for fetching the weights into every block.
constexpr std::int64_t kFewestRows = 1024;
constexpr std::int64_t kMostRows = (std::int64_t{1} << 31) - 2 * kRows,
                       kMostColumns = std::int64_t{1} << 20;  // places and rows are ints

bool fits(std::int64_t rows, std::int64_t inner) {
  return rows >= kFewestRows && rows <= kMostRows && inner > 0 && inner <= kMostInner && inner % 8 == 0;
}

CUtensorMap map_of(const ConstTensor& t) { return make_matrix_map(t, kBoxColumns, kRows); }
// Of results, which leave by warps.
CUtensorMap map_out(const Tensor& t) { return make_matrix_map(t, kBoxColumns, kWarpRows); }

// As many workers as keep every multiprocessor's one block busy.
Problem problem_of(const Context& ctx, std::int64_t rows, std::int64_t blocks) {
  const std::int64_t most = state_of(ctx).multiprocessors / blocks;
  return {.rows = rows,
          .blocks = static_cast<int>(blocks),
          .workers = static_cast<int>(std::clamp<std::int64_t>(most, 1, ceil_div(rows, kRows)))};
}

template <class Layout, class Kernel, class... Arguments>
void launch(const Context& ctx, const char* op, Kernel kernel, const Problem& p,
            const Arguments&... arguments) {
  constexpr int kSharedBytes = Layout::kBytes;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes), op);
  launch_early(ctx, op, kernel,
               {.grid = dim3(static_cast<unsigned>(p.blocks * p.workers)),
                .threads = Layout::kThreads,
                .shared_bytes = std::size_t{kSharedBytes}},
               arguments...);
}

// Calls f.template operator()<boxes of a row>().
template <class F>
void visit_boxes(std::int64_t inner, F&& f) {
  inner <= 2 * kBoxColumns ? f.template operator()<2>() : f.template operator()<4>();
}

}  // namespace

bool resident_supports(const MatmulProblem& p) {
  return p.in == DType::bf16 && p.out == DType::bf16 && !p.transpose_a && !p.accumulate &&
         p.arithmetic == Arithmetic::fast && fits(p.rows, p.inner) && p.columns >= kColumns &&
         p.columns <= kMostColumns && p.columns % 8 == 0;
}

void matmul_resident(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> operands) {
  LinearMaps maps{.rows = map_of(operands[0].a), .weights = {}, .y = {}};
  LinearWidths widths{};
  std::int64_t blocks = 0;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    maps.weights[i] = map_of(operands[i].b);
    maps.y[i] = map_out(operands[i].c);
    widths.of[i] = static_cast<int>(operands[i].c.shape[1]);
    blocks += linear_blocks(widths.of[i]);
  }
  const Problem problem = problem_of(ctx, p.rows, blocks);
  visit_boxes(p.inner, [&]<int kBoxes>() {
    const auto kernel = p.transpose_b ? linear_group_kernel<kBoxes, Lines::along_k>
                                      : linear_group_kernel<kBoxes, Lines::along_n>;
    launch<ForwardLayout<kBoxes>>(ctx, "matmul", kernel, problem, maps, widths, problem);
  });
}

bool resident_supports_beside(Arithmetic arithmetic, const ConstTensor& rows, const ConstTensor& weight,
                              std::int64_t width) {
  return fits(rows.shape[0], rows.shape[1]) && arithmetic == Arithmetic::fast && rows.dtype == DType::bf16 &&
         weight.dtype == DType::bf16 && width > 0 && width % kColumns == 0 && width <= kMostColumns;
}

void swiglu_resident(const Context& ctx, Tensor y, Tensor gate_up, ConstTensor x, ConstTensor weight) {
  const Problem p = problem_of(ctx, y.shape[0], y.shape[1] / kColumns);
  const bool kept = gate_up.defined();
  const Maps maps{.rows = map_of(x),
                  .weights = map_of(weight),
                  .gate_up = kept ? map_out(gate_up) : CUtensorMap{},
                  .y = map_out(y)};
  visit_boxes(x.shape[1], [&]<int kBoxes>() {
    launch<ForwardLayout<kBoxes>>(ctx, "swiglu_linear", swiglu_linear_kernel<kBoxes>, p, maps, p, kept);
  });
}

void swiglu_backward_resident(const Context& ctx, Tensor dgate_up, ConstTensor dout, ConstTensor weight,
                              ConstTensor gate_up) {
  const Problem p = problem_of(ctx, dout.shape[0], weight.shape[1] / kColumns);
  const Maps maps{.rows = map_of(dout), .weights = map_of(weight), .gate_up = map_of(gate_up), .y = {}};
  visit_boxes(dout.shape[1], [&]<int kBoxes>() {
    launch<BackwardLayout<kBoxes>>(ctx, "swiglu_linear_backward", swiglu_backward_kernel<kBoxes>, p, maps, p,
                                   pointer<bf16>(dgate_up));
  });
}

void gated_norm_backward_resident(Context& ctx, const GatedNormBackward& norm, const ConstTensor& dout,
                                  const ConstTensor& out_weight) {
  const Arena::Scope scope(*ctx.scratch);
  const Problem p = problem_of(ctx, dout.shape[0], out_weight.shape[1] / kColumns);
  const Tensor sums = ctx.scratch->make(DType::f32, {std::int64_t{p.blocks} * p.workers, kColumns});
  const Shape wide{dout.shape[0], out_weight.shape[1]};
  const GatedNormMaps maps{.rows = map_of(dout),
                           .weights = map_of(out_weight),
                           .x = map_of(reshaped(norm.in.x, wide)),
                           .gate = map_of(reshaped(norm.gate, wide))};
  const GatedNorm arguments{.weight = pointer<float>(norm.in.weight),
                            .inverse_rms = pointer<float>(norm.in.inverse_rms),
                            .dx = pointer<bf16>(norm.dx),
                            .dgate = pointer<bf16>(norm.dgate),
                            .sums = pointer<float>(sums)};
  visit_boxes(dout.shape[1], [&]<int kBoxes>() {
    launch<BackwardLayout<kBoxes>>(ctx, "gated_rms_norm_linear_backward", gated_norm_backward_kernel<kBoxes>,
                                   p, maps, p, arguments);
  });
  add_column_sums(ctx, norm.dweight, sums);
}

}  // namespace braid::cuda
