#pragma once
#include "braid/core/context.h"

namespace braid::ops {

// y = a + b, one shape and dtype; y may be a or b.
void add(Context&, Tensor y, ConstTensor a, ConstTensor b);
// t = value everywhere.
void fill(Context&, Tensor t, double value);
// y = x, one count; dtypes may differ (f32, f64, bf16, f16).
void copy(Context&, Tensor y, ConstTensor x);

}  // namespace braid::ops
