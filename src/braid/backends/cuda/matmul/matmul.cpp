#include "braid/ops/matmul.h"

#include "braid/backends/cuda/kernels.h"
#include "braid/backends/cuda/launch.h"
#include "braid/backends/cuda/matmul/problem.h"

namespace braid::cuda {
namespace {

// Products below this many multiply-adds never profit from splitting the inner size over workspace.
constexpr std::int64_t kSmallProduct = std::int64_t{1} << 26;

Tensor make_matmul_scratch(Context& ctx, const MatmulProblem& p) {
  return ctx.scratch->make(DType::u8, {workspace_bytes(p)});
}

bool on_16_bytes(const ConstTensor& t) { return reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0; }

void run_library(Context& ctx, const MatmulProblem& p, Tensor c, ConstTensor a, ConstTensor b) {
  const Arena::Scope scope(*ctx.scratch);
  if (!matmul_library(ctx, p, c, a, b, make_matmul_scratch(ctx, p))) matmul_tiled(ctx, p, c, a, b);
}

void run(Context& ctx, MatmulVariant variant, const MatmulProblem& p, Tensor c, ConstTensor a,
         ConstTensor b) {
  switch (variant) {
    case MatmulVariant::nothing:
      return;
    case MatmulVariant::zeros:
      return check_cuda(cudaMemsetAsync(c.mutable_data(), 0, c.bytes(), stream_of(ctx)));
    case MatmulVariant::gemv:  // a view may begin anywhere
      return on_16_bytes(a) && on_16_bytes(b) ? matmul_gemv(ctx, p, c, a, b) : matmul_tiled(ctx, p, c, a, b);
    case MatmulVariant::library:
      return run_library(ctx, p, c, a, b);
    case MatmulVariant::tiled:
      return matmul_tiled(ctx, p, c, a, b);
  }
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
          .accumulate = options.accumulate == ops::Accumulate::yes,
          .in = a.dtype,
          .out = c.dtype,
          .arithmetic = ctx.arithmetic};
}

MatmulVariant choose_config(const MatmulProblem& p) {
  if (p.rows == 0 || p.columns == 0) return MatmulVariant::nothing;
  if (p.inner == 0) return p.accumulate ? MatmulVariant::nothing : MatmulVariant::zeros;
  // cuBLASLt's choice of algorithm, hence a row's bits, depends on the number of rows.
  if (p.arithmetic == Arithmetic::strict) return MatmulVariant::tiled;
  return gemv_supports(p) ? MatmulVariant::gemv : MatmulVariant::library;
}

std::int64_t workspace_bytes(const MatmulProblem& p) {
  constexpr std::int64_t kMiB = 1 << 20;
  return p.rows * p.columns * p.inner < kSmallProduct ? kMiB : 32 * kMiB;
}

void matmul(Context& ctx, Tensor c, ConstTensor a, ConstTensor b, ops::MatmulOptions options) {
  const MatmulProblem p = matmul_problem(ctx, c, a, b, options);
  run(ctx, choose_config(p), p, c, a, b);
}

void scratch::matmul(Context& ctx, Tensor c, ConstTensor a, ConstTensor b, ops::MatmulOptions options) {
  const MatmulProblem p = matmul_problem(ctx, c, a, b, options);
  if (choose_config(p) != MatmulVariant::library) return;
  const Arena::Scope scope(*ctx.scratch);
  make_matmul_scratch(ctx, p);
}

void matmul_forced(Context& ctx, MatmulVariant variant, Tensor c, ConstTensor a, ConstTensor b,
                   ops::MatmulOptions options) {
  const MatmulProblem p = matmul_problem(ctx, c, a, b, options);
  require(p.rows * p.columns * p.inner > 0, "matmul: forced variants need sizes above 0, c is {}",
          describe(c));
  if (variant == MatmulVariant::gemv) {
    require(
        gemv_supports(p) && on_16_bytes(a) && on_16_bytes(b),
        "matmul: gemv cannot multiply a {} by b {}: expected bf16, at most {} rows, b transposed, the inner "
        "size a multiple of 8",
        describe(a), describe(b), kGemvRows);
  }
  run(ctx, variant, p, c, a, b);
}

}  // namespace braid::cuda
