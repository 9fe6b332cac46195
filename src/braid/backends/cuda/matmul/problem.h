// One matrix product as a value, and the pure functions that choose how it is computed.
#pragma once
#include <compare>
#include <cstdint>
#include <span>

#include "braid/core/context.h"
#include "braid/ops/matmul.h"

namespace braid::cuda {

// c (rows, columns) = a (rows, inner) · b (inner, columns), each as stored: `a`, `b` transposed where
// `options` say.
struct MatmulProblem {
  std::int64_t rows = 0, columns = 0, inner = 0;
  bool transpose_a = false, transpose_b = false;
  bool accumulate = false;  // something is added: c's old values, or an addend
  DType in = DType::f32, out = DType::f32;
  Arithmetic arithmetic = Arithmetic::fast;
};

// One product's tensors. `before` is what the product is added to: c itself, another, or nothing.
struct MatmulOperands {
  Tensor c;
  ConstTensor a, b, before;
};

enum class MatmulVariant : std::uint8_t {
  nothing,   // c is empty
  no_terms,  // the inner size is 0: c is what the product is added to, or zeros
  gemv,      // very few rows on transposed bf16 weights: memory bound
  few_rows,  // a few more, on tensor cores: likewise
  resident,  // many narrow rows on bf16 weights, which stay in shared memory
  library,   // cuBLASLt; tiled where it has no algorithm for the alignment at hand
  tiled,     // each element summed in the order of k, whatever the other rows
};

// Throws where dtypes are not supported on cuda.
MatmulProblem matmul_problem(const Context& ctx, const ConstTensor& c, const ConstTensor& a,
                             const ConstTensor& b, const ops::MatmulOptions& options);
MatmulVariant choose_config(const MatmulProblem& p);
// Bytes of cuBLASLt's workspace.
std::int64_t workspace_bytes(const MatmulProblem& p);

inline constexpr std::int64_t kGemvRows = 8;
// Whether gemv can compute the problem, from shapes alone.
constexpr bool gemv_supports(const MatmulProblem& p) {
  return p.rows <= kGemvRows && !p.transpose_a && p.transpose_b && p.in == DType::bf16 && p.inner % 8 == 0;
}

inline constexpr std::int64_t kFewRows = 32;
// Whether few_rows can compute the problem, from shapes alone.
bool few_rows_supports(const MatmulProblem& p);

// The variants. matmul_gemv and matmul_few_rows compute several products of the same a in one launch; they
// need rows of a and b on 16-byte boundaries. The others compute swiglu_linear likewise: `p` is its product,
// b (2F, K), and c (M, F) in bf16.
void matmul_gemv(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> parts);
void matmul_few_rows(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> parts);
void swiglu_gemv(const Context& ctx, const MatmulProblem& p, const MatmulOperands& operands);
void swiglu_few_rows(const Context& ctx, const MatmulProblem& p, const MatmulOperands& operands);
void matmul_tiled(const Context& ctx, const MatmulProblem& p, const MatmulOperands& operands);
// False where cuBLASLt has no algorithm; c is then untouched.
bool matmul_library(Context& ctx, const MatmulProblem& p, const MatmulOperands& operands, Tensor workspace);

}  // namespace braid::cuda
