#include "braid/backends/cpu/matmul.h"

#include <dnnl.h>
#include <omp.h>

#include "braid/backends/cpu/kernels.h"
#include "braid/backends/cpu/matmul_amx.h"
#include "braid/backends/cpu/parallel.h"
#include "braid/backends/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/backends/cpu/matmul.cpp"
#include <hwy/foreach_target.h>

#include "braid/backends/cpu/matmul_dot-inl.h"
#include "braid/backends/cpu/matmul_packed-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

void matmul_dot(Context& ctx, const MatmulProblem& p, Tensor c, ConstTensor a, ConstTensor b) {
  if (b.dtype == DType::bf16) {
    DotProduct<BFloat16>{p, a.as<float>(), b.as<BFloat16>(), c.as<float>()}.run(ctx);
  } else {
    DotProduct<float>{p, a.as<float>(), b.as<float>(), c.as<float>()}.run(ctx);
  }
}

void matmul_packed(Context& ctx, const MatmulProblem& p, Tensor c, ConstTensor a, ConstTensor b) {
  const Arena::Scope scope(*ctx.scratch);
  const PackedScratch scratch = make_matmul_scratch(ctx, p);
  if (b.dtype == DType::bf16) {
    PackedProduct<BFloat16>{p, a.as<float>(), b.as<BFloat16>(), c.as<float>(), scratch}.run(ctx);
  } else {
    PackedProduct<float>{p, a.as<float>(), b.as<float>(), c.as<float>(), scratch}.run(ctx);
  }
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid::cpu {
namespace {

HWY_EXPORT(matmul_dot);
HWY_EXPORT(matmul_packed);

// oneDNN runs on the same OpenMP team; it takes the thread count from the calling thread's OpenMP setting.
void matmul_library(const Context& ctx, const MatmulProblem& p, Tensor c, ConstTensor a, ConstTensor b) {
  const bool ta = p.options.a == ops::Transpose::yes, tb = p.options.b == ops::Transpose::yes;
  const float beta = p.options.accumulate == ops::Accumulate::yes ? 1.0f : 0.0f;
  const int before = omp_get_max_threads();
  omp_set_num_threads(state_of(ctx).threads);
  const auto status = dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', p.rows, p.columns, p.inner, 1.0f,
                                 a.as<float>(), ta ? p.rows : p.inner, b.as<float>(),
                                 tb ? p.inner : p.columns, beta, c.as<float>(), p.columns);
  omp_set_num_threads(before);
  require(status == dnnl_success, "matmul: oneDNN's sgemm failed with status {} for a {} and b {}",
          static_cast<int>(status), describe(a), describe(b));
}

}  // namespace

void matmul(Context& ctx, Tensor c, ConstTensor a, ConstTensor b, ops::MatmulOptions options) {
  require_f32("matmul", {c, a});
  if (options.addend.defined()) {
    copy(ctx, c, options.addend);
    options = {.a = options.a, .b = options.b, .accumulate = ops::Accumulate::yes};
  }
  const MatmulProblem p = matmul_problem(ctx, c, a, b, options);
  if (p.rows == 0 || p.columns == 0) return;
  if (p.inner == 0) {
    if (options.accumulate == ops::Accumulate::no) fill(ctx, c, 0);
    return;
  }
  switch (choose_matmul(p)) {
    case MatmulPath::dot:
      return HWY_DYNAMIC_DISPATCH(matmul_dot)(ctx, p, c, a, b);
    case MatmulPath::packed:
      return HWY_DYNAMIC_DISPATCH(matmul_packed)(ctx, p, c, a, b);
    case MatmulPath::amx: {
      const Arena::Scope scope(*ctx.scratch);
      return matmul_amx(ctx, p, c.as<float>(), a.as<float>(), b.as<float>(), make_amx_scratch(ctx, p));
    }
    case MatmulPath::library:
      return matmul_library(ctx, p, c, a, b);
  }
}

void scratch::matmul(Context& ctx, Tensor c, ConstTensor a, ConstTensor b, ops::MatmulOptions options) {
  const MatmulProblem p = matmul_problem(ctx, c, a, b, options);
  if (p.rows == 0 || p.columns == 0 || p.inner == 0) return;
  const Arena::Scope scope(*ctx.scratch);
  const MatmulPath path = choose_matmul(p);
  if (path == MatmulPath::packed) make_matmul_scratch(ctx, p);
  if (path == MatmulPath::amx) make_amx_scratch(ctx, p);
}

void linear_group(Context& ctx, std::span<const ops::LinearPart> parts, ConstTensor x) {
  for (const auto& [y, weight] : parts) matmul(ctx, y, x, weight, {.b = ops::Transpose::yes});
}

void scratch::linear_group(Context& ctx, std::span<const ops::LinearPart> parts, ConstTensor x) {
  for (const auto& [y, weight] : parts) scratch::matmul(ctx, y, x, weight, {.b = ops::Transpose::yes});
}

}  // namespace braid::cpu
#endif
