#include <cstring>

#include "braid/backends/cpu/kernels.h"
#include "braid/backends/cpu/parallel.h"

namespace braid::cpu {
namespace {

void check_ids(std::string_view op, const ConstTensor& ids, std::int64_t rows) {
  const std::int32_t* id = ids.as<std::int32_t>();
  for (std::int64_t n = 0; n < ids.count(); ++n) {
    require(id[n] >= 0 && id[n] < rows, "{}: ids[{}] is {}, expected [0, {})", op, n, id[n], rows);
  }
}

constexpr std::int64_t kTokens = 16;    // per task
constexpr std::int64_t kColumns = 128;  // per task

}  // namespace

void embedding_forward(Context& ctx, Tensor y, ConstTensor ids, ConstTensor table) {
  require_f32("embedding_forward", {y});
  check_ids("embedding_forward", ids, table.shape[0]);
  const std::int64_t C = y.shape[1];
  const auto* id = ids.as<std::int32_t>();
  float* out = y.as<float>();
  const auto* bytes = static_cast<const std::byte*>(table.data);
  parallel_blocks(ctx, y.shape[0], kTokens, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      if (table.dtype == DType::f32) {
        std::memcpy(out + n * C, bytes + id[n] * C * 4, static_cast<std::size_t>(C) * 4);
      } else {
        const auto* row = reinterpret_cast<const BFloat16*>(bytes) + id[n] * C;
        std::transform(row, row + C, out + n * C, [](BFloat16 w) { return static_cast<float>(w); });
      }
    }
  });
}

// Threads share the columns, so every element is summed in token order.
void embedding_backward(Context& ctx, Tensor dtable, ConstTensor dy, ConstTensor ids) {
  require_f32("embedding_backward", {dtable, dy});
  check_ids("embedding_backward", ids, dtable.shape[0]);
  const std::int64_t N = dy.shape[0], C = dy.shape[1];
  const auto* id = ids.as<std::int32_t>();
  const float* in = dy.as<float>();
  float* table = dtable.as<float>();
  parallel_blocks(ctx, C, kColumns, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = 0; n < N; ++n) {
      float* out = table + id[n] * C;
      for (std::int64_t c = begin; c < end; ++c) out[c] += in[n * C + c];
    }
  });
}

}  // namespace braid::cpu
