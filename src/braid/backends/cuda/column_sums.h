// The second half of a parameter gradient: each block of a kernel leaves one row of sums, and the rows are
// added in an order that depends on their number alone.
#pragma once
#include "braid/core/context.h"

namespace braid::cuda {

// out (W): out[i] += the sum of column first + i of sums (B, at least first + W), both f32.
void add_column_sums(Context&, const Tensor& out, const ConstTensor& sums, std::int64_t first = 0);

}  // namespace braid::cuda
