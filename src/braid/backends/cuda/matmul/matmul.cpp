#include "braid/ops/matmul.h"

#include <vector>

#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/launch.h"
#include "braid/backends/cuda/matmul/problem.h"
#include "braid/backends/cuda/matmul/resident/resident.h"
#include "braid/ops/swiglu.h"

namespace braid::cuda {
namespace {

// Products below this many multiply-adds never profit from splitting the inner size over workspace.
constexpr std::int64_t kSmallProduct = std::int64_t{1} << 26;

Tensor make_matmul_scratch(Context& ctx, const MatmulProblem& p) {
  return ctx.scratch->make(DType::u8, {workspace_bytes(p)});
}

bool can_stream(const MatmulOperands& o) { return on_16_bytes({o.a, o.b}); }

void start_from_nothing(Context& ctx, const MatmulProblem& p, const MatmulOperands& o) {
  if (p.accumulate) return copy(ctx, o.c, o.before);
  check_cuda(cudaMemsetAsync(o.c.mutable_data(), 0, o.c.bytes(), stream_of(ctx)));
}

void run_library(Context& ctx, const MatmulProblem& p, const MatmulOperands& o) {
  const Arena::Scope scope(*ctx.scratch);
  if (!matmul_library(ctx, p, o, make_matmul_scratch(ctx, p))) matmul_tiled(ctx, p, o);
}

bool streams(MatmulVariant variant) {
  return variant == MatmulVariant::gemv || variant == MatmulVariant::few_rows;
}

// Whether the variant computes several products of the same a in one launch, and these tensors allow it.
bool in_one_launch(MatmulVariant variant, const MatmulOperands& o) {
  if (variant == MatmulVariant::resident) return on_16_bytes({o.a, o.b, o.c});
  return streams(variant) && can_stream(o);
}

void run_in_one_launch(Context& ctx, MatmulVariant variant, const MatmulProblem& p,
                       std::span<const MatmulOperands> operands) {
  if (variant == MatmulVariant::gemv) return matmul_gemv(ctx, p, operands);
  if (variant == MatmulVariant::few_rows) return matmul_few_rows(ctx, p, operands);
  matmul_resident(ctx, p, operands);
}

void run(Context& ctx, MatmulVariant variant, const MatmulProblem& p, const MatmulOperands& o) {
  if (in_one_launch(variant, o)) return run_in_one_launch(ctx, variant, p, {&o, 1});
  switch (variant) {
    case MatmulVariant::nothing:
      return;
    case MatmulVariant::no_terms:
      return start_from_nothing(ctx, p, o);
    case MatmulVariant::library:
      return run_library(ctx, p, o);
    case MatmulVariant::gemv:
    case MatmulVariant::few_rows:
    case MatmulVariant::resident:
    case MatmulVariant::tiled:
      return matmul_tiled(ctx, p, o);
  }
}

MatmulOperands operands_of(Tensor c, ConstTensor a, ConstTensor b, const ops::MatmulOptions& options) {
  return {c, a, b, options.accumulate == ops::Accumulate::yes ? ConstTensor{c} : options.addend};
}

constexpr ops::MatmulOptions kLinear{.b = ops::Transpose::yes};

// How swiglu_linear is computed, and its product as if it were kept.
std::pair<MatmulVariant, MatmulProblem> swiglu_problem(const Context& ctx, const Tensor& y,
                                                       const ConstTensor& x, const ConstTensor& weight) {
  ConstTensor gate_up = y;
  gate_up.shape = {y.shape[0], weight.shape[0]};
  const MatmulProblem p = matmul_problem(ctx, gate_up, x, weight, kLinear);
  return {choose_config(p), p};
}

// Of one part of a group.
MatmulProblem problem_of(const Context& ctx, const ops::LinearPart& part, const ConstTensor& x) {
  return matmul_problem(ctx, part.y, x, part.weight, kLinear);
}

// How each part of a group is computed: parts too narrow for resident by themselves may not be together.
std::vector<MatmulVariant> variants_of(const Context& ctx, std::span<const ops::LinearPart> parts,
                                       const ConstTensor& x) {
  std::int64_t columns = 0;
  for (const auto& part : parts) {
    const MatmulProblem p = problem_of(ctx, part, x);
    if (resident_supports(p)) columns += p.columns;
  }
  std::vector<MatmulVariant> variants;
  for (const auto& part : parts) {
    const MatmulProblem p = problem_of(ctx, part, x);
    const MatmulVariant alone = choose_config(p);
    const bool joins = alone == MatmulVariant::library && columns > kLibraryColumns && resident_supports(p);
    variants.push_back(joins ? MatmulVariant::resident : alone);
  }
  return variants;
}

}  // namespace

MatmulProblem matmul_problem(const Context& ctx, const ConstTensor& c, const ConstTensor& a,
                             const ConstTensor& b, const ops::MatmulOptions& options) {
  require(a.dtype == b.dtype && (a.dtype == DType::f32 || a.dtype == DType::bf16),
          "matmul: a {} with b {} is not supported on cuda: expected both f32 or both bf16", describe(a),
          describe(b));
  const bool ta = options.a == ops::Transpose::yes;
  return {.rows = c.shape[0],
          .columns = c.shape[1],
          .inner = a.shape[ta ? 0 : 1],
          .transpose_a = ta,
          .transpose_b = options.b == ops::Transpose::yes,
          .accumulate = options.accumulate == ops::Accumulate::yes || options.addend.defined(),
          .in = a.dtype,
          .out = c.dtype,
          .arithmetic = ctx.arithmetic};
}

MatmulVariant choose_config(const MatmulProblem& p) {
  if (p.rows == 0 || p.columns == 0) return MatmulVariant::nothing;
  if (p.inner == 0) return MatmulVariant::no_terms;
  // cuBLASLt's choice of algorithm, hence a row's bits, depends on the number of rows.
  if (p.arithmetic == Arithmetic::strict) return MatmulVariant::tiled;
  if (gemv_supports(p)) return MatmulVariant::gemv;
  if (few_rows_supports(p)) return MatmulVariant::few_rows;
  const bool wide = p.columns > kLibraryColumns;
  return wide && resident_supports(p) ? MatmulVariant::resident : MatmulVariant::library;
}

std::int64_t workspace_bytes(const MatmulProblem& p) {
  constexpr std::int64_t kMiB = 1 << 20;
  return p.rows * p.columns * p.inner < kSmallProduct ? kMiB : 32 * kMiB;
}

void matmul(Context& ctx, Tensor c, ConstTensor a, ConstTensor b, ops::MatmulOptions options) {
  const MatmulProblem p = matmul_problem(ctx, c, a, b, options);
  run(ctx, choose_config(p), p, operands_of(c, a, b, options));
}

void scratch::matmul(Context& ctx, Tensor c, ConstTensor a, ConstTensor b, ops::MatmulOptions options) {
  const MatmulProblem p = matmul_problem(ctx, c, a, b, options);
  const Arena::Scope scope(*ctx.scratch);
  if (choose_config(p) == MatmulVariant::library) make_matmul_scratch(ctx, p);
}

void linear_group(Context& ctx, std::span<const ops::LinearPart> parts, ConstTensor x) {
  std::vector<MatmulOperands> together;
  MatmulVariant variant_of_all{};
  const auto variants = variants_of(ctx, parts, x);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const MatmulOperands operands{parts[i].y, x, parts[i].weight, {}};
    if (in_one_launch(variants[i], operands)) {
      together.push_back(operands);
      variant_of_all = variants[i];  // rows decide which: no two parts differ
    } else {
      run(ctx, variants[i], problem_of(ctx, parts[i], x), operands);
    }
  }
  if (together.empty()) return;
  const auto& first = together.front();
  run_in_one_launch(ctx, variant_of_all, matmul_problem(ctx, first.c, first.a, first.b, kLinear), together);
}

void scratch::linear_group(Context& ctx, std::span<const ops::LinearPart> parts, ConstTensor x) {
  const auto variants = variants_of(ctx, parts, x);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Arena::Scope scope(*ctx.scratch);
    if (variants[i] == MatmulVariant::library) make_matmul_scratch(ctx, problem_of(ctx, parts[i], x));
  }
}

void swiglu_linear(Context& ctx, Tensor y, Tensor gate_up, ConstTensor x, ConstTensor weight) {
  if (resident_supports_beside(ctx.arithmetic, x, weight, y.shape[1]) &&
      on_16_bytes({y, gate_up, x, weight})) {
    scratch::swiglu_linear(ctx, y, gate_up, x, weight);
    return swiglu_resident(ctx, y, gate_up, x, weight);
  }
  const auto [variant, p] = swiglu_problem(ctx, y, x, weight);
  const MatmulOperands operands{y, x, weight, {}};
  if (gate_up.defined() || !streams(variant) || !can_stream(operands)) {
    return ops::swiglu_linear_in_parts(ctx, y, gate_up, x, weight);
  }
  scratch::swiglu_linear(ctx, y, gate_up, x, weight);
  variant == MatmulVariant::gemv ? swiglu_gemv(ctx, p, operands) : swiglu_few_rows(ctx, p, operands);
}

void scratch::swiglu_linear(Context& ctx, Tensor y, Tensor gate_up, ConstTensor x, ConstTensor weight) {
  // Whether a view lies on 16 bytes is not known in a dry run: there is always room for the parts.
  const auto [variant, p] = swiglu_problem(ctx, y, x, weight);
  const Arena::Scope scope(*ctx.scratch);
  if (!gate_up.defined()) ctx.scratch->make(y.dtype, {p.rows, p.columns});
  if (variant == MatmulVariant::library) make_matmul_scratch(ctx, p);
}

void swiglu_linear_backward(Context& ctx, Tensor dgate_up, ConstTensor dout, ConstTensor weight,
                            ConstTensor gate_up) {
  if (resident_supports_beside(ctx.arithmetic, dout, weight, weight.shape[1]) &&
      on_16_bytes({dgate_up, dout, weight, gate_up})) {
    scratch::swiglu_linear_backward(ctx, dgate_up, dout, weight, gate_up);
    return swiglu_backward_resident(ctx, dgate_up, dout, weight, gate_up);
  }
  ops::swiglu_linear_backward_in_parts(ctx, dgate_up, dout, weight, gate_up);
}

void scratch::swiglu_linear_backward(Context& ctx, Tensor, ConstTensor dout, ConstTensor weight,
                                     ConstTensor) {
  const Arena::Scope scope(*ctx.scratch);
  const Tensor dhidden = ctx.scratch->make(dout.dtype, {dout.shape[0], weight.shape[1]});
  scratch::matmul(ctx, dhidden, dout, weight, {});
}

}  // namespace braid::cuda
