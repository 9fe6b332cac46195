#include "tests/support/gradient_check.h"

namespace braid::test {

double inner_product(const ConstTensor& y, const ConstTensor& dy) {
  require(y.shape == dy.shape, "inner product of {} and {}", describe(y), describe(dy));
  double sum = 0;
  for (std::int64_t i = 0; i < y.count(); ++i) sum += element(y, i) * element(dy, i);
  return sum;
}

void expect_gradient(const Tensor& x, const ConstTensor& gradient, const std::function<double()>& loss,
                     std::string_view what, double step, std::source_location at) {
  TestTensors tensors(0);
  const Tensor differences = tensors.make(DType::f64, x.shape);
  double* values = x.as<double>();
  for (std::int64_t i = 0; i < x.count(); ++i) {
    const double saved = values[i];
    values[i] = saved + step;
    const double above = loss();
    values[i] = saved - step;
    const double below = loss();
    values[i] = saved;
    differences.as<double>()[i] = (above - below) / (2 * step);
  }
  expect_close(gradient, differences, kDifferenceTolerance, what, at);
}

}  // namespace braid::test
