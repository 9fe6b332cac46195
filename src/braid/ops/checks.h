// Argument checks shared by the op fronts. Messages read "op: argument is f32 (2, 3), expected f32 (2, 4)".
#pragma once
#include <string_view>

#include "braid/core/context.h"

namespace braid::ops {

// What one op expects of one argument.
class Checker {
 public:
  explicit Checker(std::string_view op) : op_(op) {}
  void shape(std::string_view name, const ConstTensor& t, const Shape& want) const {
    require(t.shape == want, "{}: {} is {}, expected shape {}", op_, name, describe(t), to_string(want));
  }
  void dtype(std::string_view name, const ConstTensor& t, DType want) const {
    require(t.dtype == want, "{}: {} is {}, expected dtype {}", op_, name, describe(t), name_of(want));
  }
  void tensor(std::string_view name, const ConstTensor& t, DType want, const Shape& shape_wanted) const {
    dtype(name, t, want);
    shape(name, t, shape_wanted);
  }
  void rank(std::string_view name, const ConstTensor& t, int want) const {
    require(t.shape.rank == want, "{}: {} is {}, expected {} dimensions", op_, name, describe(t), want);
  }
  void floating(std::string_view name, const ConstTensor& t) const {
    require(t.dtype == DType::f32 || t.dtype == DType::f64 || t.dtype == DType::bf16,
            "{}: {} is {}, expected a floating dtype", op_, name, describe(t));
  }
  template <class... Args>
  void that(bool ok, fmt::format_string<Args...> format, Args&&... args) const {
    if (!ok) throw Error(fmt::format("{}: {}", op_, fmt::format(format, std::forward<Args>(args)...)));
  }

 private:
  std::string_view op_;
};

}  // namespace braid::ops
