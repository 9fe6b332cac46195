#include "braid/core/tensor.h"

namespace braid {

std::string to_string(const Shape& shape) {
  std::string s = "(";
  for (int i = 0; i < shape.rank; ++i) s += (i != 0 ? ", " : "") + std::to_string(shape[i]);
  return s + ")";
}

std::string describe(const ConstTensor& t) {
  return std::string(name_of(t.dtype)) + " " + to_string(t.shape);
}

ConstTensor rows_of(const ConstTensor& t, std::int64_t begin, std::int64_t rows) {
  require(t.shape.rank > 0 && begin >= 0 && rows >= 0 && begin + rows <= t.shape[0],
          "rows [{}, {}) are outside {}", begin, begin + rows, describe(t));
  ConstTensor view = t;
  const std::int64_t row = t.shape[0] == 0 ? 0 : t.count() / t.shape[0];
  view.shape.dims[0] = rows;
  if (t.data != nullptr) {
    view.data =
        static_cast<const std::byte*>(t.data) + static_cast<std::size_t>(begin * row) * size_of(t.dtype);
  }
  return view;
}

Tensor rows_of(const Tensor& t, std::int64_t begin, std::int64_t rows) {
  return Tensor{rows_of(static_cast<const ConstTensor&>(t), begin, rows)};
}

ConstTensor reshaped(const ConstTensor& t, const Shape& shape) {
  require(shape.count() == t.count(), "cannot view {} as {}", describe(t), to_string(shape));
  ConstTensor view = t;
  view.shape = shape;
  return view;
}

Tensor reshaped(const Tensor& t, const Shape& shape) {
  return Tensor{reshaped(static_cast<const ConstTensor&>(t), shape)};
}

}  // namespace braid
