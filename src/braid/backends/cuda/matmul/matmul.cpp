#include "braid/ops/matmul.h"

#include <vector>

#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/launch.h"
#include "braid/backends/cuda/matmul/problem.h"
#include "braid/ops/swiglu.h"

namespace braid::cuda {
namespace {

// Products below this many multiply-adds never profit from splitting the inner size over workspace.
constexpr std::int64_t kSmallProduct = std::int64_t{1} << 26;

Tensor make_matmul_scratch(Context& ctx, const MatmulProblem& p) {
  return ctx.scratch->make(DType::u8, {workspace_bytes(p)});
}

// A view may begin anywhere.
bool on_16_bytes(const ConstTensor& t) { return reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0; }
bool can_stream(const MatmulOperands& o) { return on_16_bytes(o.a) && on_16_bytes(o.b); }

void start_from_nothing(Context& ctx, const MatmulProblem& p, const MatmulOperands& o) {
  if (p.accumulate) return copy(ctx, o.c, o.before);
  check_cuda(cudaMemsetAsync(o.c.mutable_data(), 0, o.c.bytes(), stream_of(ctx)));
}

void run_library(Context& ctx, const MatmulProblem& p, const MatmulOperands& o) {
  const Arena::Scope scope(*ctx.scratch);
  if (!matmul_library(ctx, p, o, make_matmul_scratch(ctx, p))) matmul_tiled(ctx, p, o);
}

// Products of the same a, in one launch.
void run_together(Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> operands) {
  if (choose_config(p) == MatmulVariant::gemv) return matmul_gemv(ctx, p, operands);
  matmul_few_rows(ctx, p, operands);
}

void run(Context& ctx, MatmulVariant variant, const MatmulProblem& p, const MatmulOperands& o) {
  switch (variant) {
    case MatmulVariant::nothing:
      return;
    case MatmulVariant::no_terms:
      return start_from_nothing(ctx, p, o);
    case MatmulVariant::gemv:
      return can_stream(o) ? matmul_gemv(ctx, p, {&o, 1}) : matmul_tiled(ctx, p, o);
    case MatmulVariant::few_rows:
      return can_stream(o) ? matmul_few_rows(ctx, p, {&o, 1}) : matmul_tiled(ctx, p, o);
    case MatmulVariant::library:
      return run_library(ctx, p, o);
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

// What decides how a group is computed: the same for all parts.
MatmulProblem problem_of(const Context& ctx, const ops::LinearPart& part, const ConstTensor& x) {
  return matmul_problem(ctx, part.y, x, part.weight, kLinear);
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
  return few_rows_supports(p) ? MatmulVariant::few_rows : MatmulVariant::library;
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
  for (const auto& part : parts) {
    const MatmulProblem p = problem_of(ctx, part, x);
    const MatmulOperands operands{part.y, x, part.weight, {}};
    const MatmulVariant variant = choose_config(p);
    const bool streams = variant == MatmulVariant::gemv || variant == MatmulVariant::few_rows;
    if (streams && can_stream(operands)) {
      together.push_back(operands);
    } else {
      run(ctx, variant, p, operands);
    }
  }
  if (together.empty()) return;
  const auto& first = together.front();
  run_together(ctx, matmul_problem(ctx, first.c, first.a, first.b, kLinear), together);
}

void scratch::linear_group(Context& ctx, std::span<const ops::LinearPart> parts, ConstTensor x) {
  for (const auto& [y, weight] : parts) scratch::matmul(ctx, y, x, weight, kLinear);
}

void swiglu_linear(Context& ctx, Tensor y, ConstTensor x, ConstTensor weight) {
  const auto [variant, p] = swiglu_problem(ctx, y, x, weight);
  const MatmulOperands operands{y, x, weight, {}};
  const bool streams = variant == MatmulVariant::gemv || variant == MatmulVariant::few_rows;
  if (!streams || !can_stream(operands)) return ops::swiglu_linear_in_parts(ctx, y, x, weight);
  scratch::swiglu_linear(ctx, y, x, weight);
  variant == MatmulVariant::gemv ? swiglu_gemv(ctx, p, operands) : swiglu_few_rows(ctx, p, operands);
}

void scratch::swiglu_linear(Context& ctx, Tensor y, ConstTensor x, ConstTensor weight) {
  // Whether a view can stream is not known in a dry run: there is always room for the parts.
  const auto [variant, p] = swiglu_problem(ctx, y, x, weight);
  const Arena::Scope scope(*ctx.scratch);
  ctx.scratch->make(y.dtype, {p.rows, p.columns});
  if (variant == MatmulVariant::library) make_matmul_scratch(ctx, p);
}

void matmul_forced(Context& ctx, MatmulVariant variant, Tensor c, ConstTensor a, ConstTensor b,
                   ops::MatmulOptions options) {
  const MatmulProblem p = matmul_problem(ctx, c, a, b, options);
  const MatmulOperands operands = operands_of(c, a, b, options);
  require(p.rows * p.columns * p.inner > 0, "matmul: forced variants need sizes above 0, c is {}",
          describe(c));
  const auto needs = [&](MatmulVariant which, const char* name, bool supported, std::int64_t rows) {
    require(
        variant != which || (supported && can_stream(operands)),
        "matmul: {} cannot multiply a {} by b {}: expected bf16, at most {} rows, b transposed, the inner "
        "size a multiple of 8",
        name, describe(a), describe(b), rows);
  };
  needs(MatmulVariant::gemv, "gemv", gemv_supports(p), kGemvRows);
  needs(MatmulVariant::few_rows, "few_rows", few_rows_supports(p), kFewRows);
  run(ctx, variant, p, operands);
}

}  // namespace braid::cuda
