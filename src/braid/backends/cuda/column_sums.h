// The second half of a parameter gradient: each block of a kernel leaves one row of sums, and the rows are
// added in an order that depends on their number alone.
#pragma once
#include "braid/core/context.h"

namespace braid::cuda {

// out (W): out[i] += the sum of column i of sums (B, at least W), both f32.
void add_column_sums(Context&, const Tensor& out, const ConstTensor& sums);
// The same for two, whose columns follow each other.
void add_column_sums(Context&, const Tensor& first, const Tensor& second, const ConstTensor& sums);

}  // namespace braid::cuda
