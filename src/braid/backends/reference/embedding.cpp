#include <vector>

#include "braid/backends/reference/reference.h"
#include "braid/backends/reference/scalar.h"

namespace braid::reference {
namespace {

std::int64_t checked_id(std::string_view op, const std::int32_t* ids, std::int64_t n, std::int64_t rows) {
  require(ids[n] >= 0 && ids[n] < rows, "{}: ids[{}] is {}, expected [0, {})", op, n, ids[n], rows);
  return ids[n];
}

}  // namespace

void embedding_forward(Context&, Tensor y, ConstTensor ids, ConstTensor table) {
  const std::int64_t N = y.shape[0], C = y.shape[1];
  visit_float(y.dtype, [&]<class T>() {
    visit_storage(table.dtype, [&]<class W>() {
      for (std::int64_t n = 0; n < N; ++n) {
        const auto id = checked_id("embedding_forward", ids.as<std::int32_t>(), n, table.shape[0]);
        for (std::int64_t c = 0; c < C; ++c) {
          y.as<T>()[n * C + c] = static_cast<T>(to_double(table.as<W>()[id * C + c]));
        }
      }
    });
  });
}

void embedding_backward(Context&, Tensor dtable, ConstTensor dy, ConstTensor ids) {
  const std::int64_t N = dy.shape[0], C = dy.shape[1], count = dtable.count();
  visit_float(dtable.dtype, [&]<class T>() {
    T* table = dtable.as<T>();
    std::vector<double> sum(table, table + count);
    for (std::int64_t n = 0; n < N; ++n) {
      const auto id = checked_id("embedding_backward", ids.as<std::int32_t>(), n, dtable.shape[0]);
      for (std::int64_t c = 0; c < C; ++c) {
        sum[static_cast<std::size_t>(id * C + c)] += to_double(dy.as<T>()[n * C + c]);
      }
    }
    for (std::int64_t i = 0; i < count; ++i) table[i] = static_cast<T>(sum[static_cast<std::size_t>(i)]);
  });
}

}  // namespace braid::reference
