// Products of many narrow rows whose weights stay in shared memory (tiles.cuh), and what is computed
// beside them. All tensors begin on 16 bytes.
#pragma once
#include "braid/backends/cuda/matmul/problem.h"
#include "braid/ops/rms_norm.h"

namespace braid::cuda {

// So few columns in all are the library's: 8.8 us where resident takes 10.7 (17,664 rows of 256, H200).
inline constexpr std::int64_t kLibraryColumns = 256;
// Whether resident can compute the problem, from shapes alone; several products of the same a in one launch.
bool resident_supports(const MatmulProblem& p);
void matmul_resident(const Context& ctx, const MatmulProblem& p, std::span<const MatmulOperands> parts);

// Whether `width` columns of a product of these rows can have something computed beside them, from shapes and
// dtypes alone.
bool resident_supports_beside(Arithmetic arithmetic, const ConstTensor& rows, const ConstTensor& weight,
                              std::int64_t width);
// As the ops; gate_up may be undefined in forward.
void swiglu_resident(const Context& ctx, Tensor y, Tensor gate_up, ConstTensor x, ConstTensor weight);
void swiglu_backward_resident(const Context& ctx, Tensor dgate_up, ConstTensor dout, ConstTensor weight,
                              ConstTensor gate_up);

inline constexpr std::int64_t kResidentNormWidth = 128;
// What gated_rms_norm_linear_backward is given besides the product's tensors; norms of kResidentNormWidth.
struct GatedNormBackward {
  Tensor dx, dgate, dweight;
  ConstTensor gate;
  ops::RmsNormInputs in;
};
void gated_norm_backward_resident(Context& ctx, const GatedNormBackward& norm, const ConstTensor& dout,
                                  const ConstTensor& out_weight);

}  // namespace braid::cuda
