#include "braid/backends/cuda/attention/sequence_tables.h"
#include "braid/backends/cuda/device/math.cuh"
#include "braid/backends/cuda/launch.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void tables_kernel(std::int32_t* lengths, std::int32_t* begin_q, std::int32_t* begin_kv,
                              std::int32_t* begin_statistics, const std::int32_t* offsets, std::int64_t count,
                              std::int64_t padded, TokenWidths widths) {
  const std::int64_t s = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (s > padded) return;
  const std::int64_t begin = offsets[min(s, count)];
  begin_q[s] = static_cast<std::int32_t>(begin * widths.q);
  begin_kv[s] = static_cast<std::int32_t>(begin * widths.kv);
  begin_statistics[s] = static_cast<std::int32_t>(begin * widths.statistics);
  if (s < padded) lengths[s] = s < count ? offsets[s + 1] - offsets[s] : 0;
}

__global__ void totals_kernel(std::int32_t* totals, const std::int32_t* offsets, const std::int32_t* lengths,
                              std::int64_t count, std::int32_t capacity) {
  const std::int64_t s = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (s >= count) return;
  const std::int32_t added = offsets[s + 1] - offsets[s];
  totals[s] = added > 0 ? min(lengths[s] + added, capacity) : 0;
}

constexpr std::int32_t kLongestTile = 256;  // keys

// A block for each of kLongestTile slots after each sequence. A sequence without tokens in the call (total 0)
// may have all of its slots in use.
template <class T>
__global__ void clear_kernel(T* k, T* v, const std::int32_t* totals, std::int64_t capacity,
                             std::int64_t width) {
  const std::int64_t s = blockIdx.x / kLongestTile;
  const std::int32_t total = totals[s];
  const std::int64_t slot = total + blockIdx.x % kLongestTile;
  if (total == 0 || slot >= capacity) return;
  const std::int64_t row = (s * capacity + slot) * width;
  for (std::int64_t i = threadIdx.x; i < width; i += blockDim.x) k[row + i] = v[row + i] = from_float<T>(0);
}

__global__ void group_kernel(float* grouped, const float* log_sum_exp, std::int64_t tokens,
                             std::int64_t all_heads, std::int64_t heads, std::int64_t rows,
                             std::int64_t length) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < rows * all_heads;
       i += stride) {
    const std::int64_t n = i / all_heads, h = i % all_heads, group = h / heads, within = h % heads;
    const std::int64_t at =
        length == 0 ? n * heads + within : (n / length * heads + within) * length + n % length;
    grouped[group * rows * heads + at] = n < tokens ? log_sum_exp[i] : 0.0F;
  }
}

}  // namespace

void make_sequence_tables(const Context& ctx, const SequenceTables& tables, const ops::Segments& segments,
                          const TokenWidths& widths) {
  const std::int64_t padded = tables.lengths.shape[0];
  tables_kernel<<<static_cast<unsigned>(ceil_div(padded + 1, kThreads)), kThreads, 0, stream_of(ctx)>>>(
      pointer<std::int32_t>(tables.lengths), pointer<std::int32_t>(tables.begin_q),
      pointer<std::int32_t>(tables.begin_kv), pointer<std::int32_t>(tables.begin_statistics),
      pointer<std::int32_t>(segments.offsets), segments.count(), padded, widths);
  check_launch("attention: sequence tables");
}

void make_totals(const Context& ctx, const Tensor& totals, const ops::Segments& segments, ConstTensor lengths,
                 std::int64_t capacity) {
  const std::int64_t count = segments.count();
  totals_kernel<<<static_cast<unsigned>(ceil_div(count, kThreads)), kThreads, 0, stream_of(ctx)>>>(
      pointer<std::int32_t>(totals), pointer<std::int32_t>(segments.offsets), pointer<std::int32_t>(lengths),
      count, static_cast<std::int32_t>(capacity));
  check_launch("attention: lengths with the cache");
}

void clear_unused(const Context& ctx, const ops::KeyValueCache& cache, const Tensor& totals) {
  const auto blocks = static_cast<unsigned>(kLongestTile * totals.shape[0]);
  clear_kernel<<<blocks, kThreads, 0, stream_of(ctx)>>>(pointer<bf16>(cache.k), pointer<bf16>(cache.v),
                                                        pointer<std::int32_t>(totals), cache.k.shape[1],
                                                        cache.k.shape[2] * cache.k.shape[3]);
  check_launch("attention: unused slots");
}

void group_statistics(const Context& ctx, Tensor grouped, ConstTensor log_sum_exp, std::int64_t heads,
                      std::int64_t rows, std::int64_t length) {
  group_kernel<<<grid_for(ctx, grouped.count(), kThreads), kThreads, 0, stream_of(ctx)>>>(
      pointer<float>(grouped), pointer<float>(log_sum_exp), log_sum_exp.shape[0], log_sum_exp.shape[1], heads,
      rows, length);
  check_launch("attention: statistics");
}

}  // namespace braid::cuda
