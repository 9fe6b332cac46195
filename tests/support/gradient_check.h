// Central finite differences in f64: the oracle of the reference backward passes.
#pragma once
#include <functional>
#include <string_view>

#include "tests/support/comparator.h"
#include "tests/support/tensors.h"

namespace braid::test {

// Σ y · dy, the scalar whose gradient backward passes compute from dy.
double inner_product(const ConstTensor& y, const ConstTensor& dy);

// Truncation error is O(step²) on the scale where the loss bends; rounding error is about 1e-16 loss / step.
inline constexpr double kDifferenceStep = 1e-5;
inline constexpr Tolerance kDifferenceTolerance{1e-7, 1e-6};

// `gradient` against (loss(x + step) − loss(x − step)) / (2 step) for every element of x (f64), which loss()
// reads anew at each call and which is left as it was.
void expect_gradient(const Tensor& x, const ConstTensor& gradient, const std::function<double()>& loss,
                     std::string_view what, double step = kDifferenceStep,
                     std::source_location at = std::source_location::current());

}  // namespace braid::test
