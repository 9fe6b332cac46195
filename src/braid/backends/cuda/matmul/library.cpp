// Matrix products through cuBLASLt. Everything is row-major here and column-major there: cuBLASLt computes
// cᵀ (N, M) = op(b)ᵀ · op(a)ᵀ, for which the stored bytes of b, a and c need no change.
#include <map>

#include "braid/backends/cuda/launch.h"
#include "braid/backends/cuda/matmul/problem.h"

namespace braid::cuda {
namespace {

constexpr std::uint32_t kMostAlignment = 16;  // bytes; more gains nothing

struct PlanKey {
  std::int64_t rows, columns, inner;
  bool transpose_a, transpose_b, accumulate;
  DType in, out;
  std::uint32_t align_a, align_b, align_c,
      align_before;  // bytes that the first elements' addresses divide by
  auto operator<=>(const PlanKey&) const = default;
};

struct Plan {
  cublasLtMatmulDescOpaque_t product{};
  cublasLtMatrixLayoutOpaque_t left{}, right{}, result{};  // b, a and c as cuBLASLt sees them
  cublasLtMatmulAlgo_t algorithm{};
  bool found = false;
};

std::uint32_t alignment_of(const ConstTensor& t) {
  const auto address = reinterpret_cast<std::uintptr_t>(t.data);
  std::uint32_t bytes = kMostAlignment;
  while (bytes > 1 && address % bytes != 0) bytes /= 2;
  return bytes;
}

PlanKey key_of(const MatmulProblem& p, const MatmulOperands& o) {
  return {.rows = p.rows,
          .columns = p.columns,
          .inner = p.inner,
          .transpose_a = p.transpose_a,
          .transpose_b = p.transpose_b,
          .accumulate = p.accumulate,
          .in = p.in,
          .out = p.out,
          .align_a = alignment_of(o.a),
          .align_b = alignment_of(o.b),
          .align_c = alignment_of(o.c),
          .align_before = p.accumulate ? alignment_of(o.before) : kMostAlignment};
}

cudaDataType_t data_type(DType t) { return t == DType::f32 ? CUDA_R_32F : CUDA_R_16BF; }

// A stored row-major (rows, columns) matrix is a column-major (columns, rows) one.
cublasLtMatrixLayoutOpaque_t layout_of(DType t, std::int64_t rows, std::int64_t columns) {
  cublasLtMatrixLayoutOpaque_t layout{};
  check_blas(cublasLtMatrixLayoutInit(&layout, data_type(t), static_cast<std::uint64_t>(columns),
                                      static_cast<std::uint64_t>(rows), columns),
             "matmul: layout");
  return layout;
}

template <class T>
void set(cublasLtMatmulDescOpaque_t& product, cublasLtMatmulDescAttributes_t name, T value) {
  check_blas(cublasLtMatmulDescSetAttribute(&product, name, &value, sizeof(value)), "matmul: description");
}
template <class T>
void set(cublasLtMatmulPreferenceOpaque_t& preference, cublasLtMatmulPreferenceAttributes_t name, T value) {
  check_blas(cublasLtMatmulPreferenceSetAttribute(&preference, name, &value, sizeof(value)),
             "matmul: preference");
}

// Fills plan.algorithm with cuBLASLt's first choice among the reproducible ones.
void find_algorithm(cublasLtHandle_t blas, Plan& plan, const PlanKey& key, std::uint64_t workspace) {
  cublasLtMatmulPreferenceOpaque_t preference{};
  check_blas(cublasLtMatmulPreferenceInit(&preference), "matmul: preference");
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
  // Split sums go through workspace in f32 and are added in a fixed order.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.align_b);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.align_a);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.align_before);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.align_c);
  cublasLtMatmulHeuristicResult_t choice{};
  int choices = 0;
  const auto status =
      cublasLtMatmulAlgoGetHeuristic(blas, &plan.product, &plan.left, &plan.right, &plan.result, &plan.result,
                                     &preference, 1, &choice, &choices);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return;
  check_blas(status, "matmul: choice of an algorithm");
  plan.found = choices == 1 && choice.state == CUBLAS_STATUS_SUCCESS;
  plan.algorithm = choice.algo;
}

Plan make_plan(cublasLtHandle_t blas, const PlanKey& key, std::uint64_t workspace) {
  Plan plan;
  // Without the FAST variants f32 products are f32, not tf32.
  check_blas(cublasLtMatmulDescInit(&plan.product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "matmul: description");
  set(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, key.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan.product, CUBLASLT_MATMUL_DESC_TRANSB, key.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  plan.left =
      key.transpose_b ? layout_of(key.in, key.columns, key.inner) : layout_of(key.in, key.inner, key.columns);
  plan.right =
      key.transpose_a ? layout_of(key.in, key.inner, key.rows) : layout_of(key.in, key.rows, key.inner);
  plan.result = layout_of(key.out, key.rows, key.columns);
  find_algorithm(blas, plan, key, workspace);
  return plan;
}

}  // namespace

struct MatmulPlans {
  std::map<PlanKey, Plan> plans;
};

bool matmul_library(Context& ctx, const MatmulProblem& p, const MatmulOperands& o, Tensor workspace) {
  State& state = state_of(ctx);
  if (!state.matmul_plans) {
    state.matmul_plans = {new MatmulPlans, [](MatmulPlans* plans) { delete plans; }};
  }
  auto& plans = state.matmul_plans->plans;
  const PlanKey key = key_of(p, o);
  auto at = plans.find(key);
  if (at == plans.end()) at = plans.emplace(key, make_plan(state.blas, key, workspace.bytes())).first;
  Plan& plan = at->second;  // cuBLASLt takes layouts as pointers to non-const
  if (!plan.found) return false;
  const float alpha = 1, beta = p.accumulate ? 1 : 0;
  const void* before = p.accumulate ? o.before.data : o.c.data;
  check_blas(cublasLtMatmul(state.blas, &plan.product, &alpha, o.b.data, &plan.left, o.a.data, &plan.right,
                            &beta, before, &plan.result, o.c.mutable_data(), &plan.result, &plan.algorithm,
                            workspace.mutable_data(), workspace.bytes(), state.stream),
             "matmul");
  return true;
}

}  // namespace braid::cuda
