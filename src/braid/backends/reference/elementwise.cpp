#include "braid/ops/elementwise.h"

#include "braid/backends/reference/reference.h"
#include "braid/backends/reference/scalar.h"

namespace braid::reference {

void add(Context&, Tensor y, ConstTensor a, ConstTensor b) {
  visit_float(y.dtype, [&]<class T>() {
    for (std::int64_t i = 0; i < y.count(); ++i) y.as<T>()[i] = a.as<T>()[i] + b.as<T>()[i];
  });
}

void fill(Context&, Tensor t, double value) {
  visit_storage(t.dtype, [&]<class T>() {
    for (std::int64_t i = 0; i < t.count(); ++i) t.as<T>()[i] = from_double<T>(value);
  });
}

void copy(Context&, Tensor y, ConstTensor x) {
  visit_storage(y.dtype, [&]<class Y>() {
    visit_storage(x.dtype, [&]<class X>() {
      for (std::int64_t i = 0; i < y.count(); ++i) y.as<Y>()[i] = from_double<Y>(to_double(x.as<X>()[i]));
    });
  });
}

}  // namespace braid::reference
