// Sums over tokens (parameter gradients) in a fixed order: the tokens are cut into blocks by their number
// alone, each block adds into its own row, and the rows are added in order.
#pragma once
#include <algorithm>

#include "braid/backends/cpu/parallel.h"

namespace braid::cpu {

// Tokens per block: at least 64, and at most 64 blocks.
constexpr std::int64_t partial_block(std::int64_t tokens) {
  return std::max<std::int64_t>(64, (tokens + 63) / 64);
}

// (blocks, width), one row per block.
inline Tensor make_partial_sums(Context& ctx, std::int64_t tokens, std::int64_t width) {
  const std::int64_t block = partial_block(tokens);
  return ctx.scratch->make(DType::f32, {(tokens + block - 1) / block, width});
}

// Clears each block's row and calls fn(begin, end, row, thread).
template <class F>
void parallel_partial_sums(const Context& ctx, std::int64_t tokens, const Tensor& sums, F&& fn) {
  const std::int64_t block = partial_block(tokens), width = sums.shape[1];
  float* rows = sums.as<float>();
  parallel_for(ctx, sums.shape[0], [&](std::int64_t i, int thread) {
    float* row = rows + i * width;
    std::fill(row, row + width, 0.0f);
    fn(i * block, std::min(tokens, (i + 1) * block), row, thread);
  });
}

// out[i] += the sum of column `first` + i.
inline void add_partial_sums(const Tensor& out, const Tensor& sums, std::int64_t first = 0) {
  constexpr std::int64_t kRun = 64;  // columns at a time: one at a time would miss the caches at every row
  const std::int64_t width = sums.shape[1];
  for (std::int64_t begin = 0; begin < out.count(); begin += kRun) {
    const std::int64_t run = std::min(kRun, out.count() - begin);
    double sum[kRun] = {};
    for (std::int64_t b = 0; b < sums.shape[0]; ++b) {
      const float* row = sums.as<float>() + b * width + first + begin;
      for (std::int64_t i = 0; i < run; ++i) sum[i] += static_cast<double>(row[i]);
    }
    for (std::int64_t i = 0; i < run; ++i) out.as<float>()[begin + i] += static_cast<float>(sum[i]);
  }
}

}  // namespace braid::cpu
