#include "braid/backends/cuda/attention/products.cuh"

namespace braid::cuda::flash {
namespace {

constexpr int kPerThread = 4, kTile = 16 * kPerThread;

template <int kWidth>
constexpr std::size_t kShared = sizeof(float) *
                                (2 * SharedTile<kTile, kWidth>::kFloats + SharedTile<kTile, kTile>::kFloats);

// Maximum or sum over the 16 threads that share a row.
__device__ __forceinline__ float row_max(float x) {
#pragma unroll
  for (int step = 8; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, step));
  return x;
}
__device__ __forceinline__ float row_sum(float x) {
#pragma unroll
  for (int step = 8; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffU, x, step);
  return x;
}

// Softmax of one row seen so far: the weights are exp(score - top), `total` their sum.
struct RunningSoftmax {
  float top = -INFINITY, total = 0;

  // Turns scores into weights; returns the factor of everything summed before.
  __device__ float add(float (&scores)[kPerThread]) {
    float most = top;
#pragma unroll
    for (float s : scores) most = fmaxf(most, s);
    most = row_max(most);
    const float base = most == -INFINITY ? 0.0F : most;  // nothing visible yet
    const float factor = expf(top - base);
    float sum = 0;
#pragma unroll
    for (float& s : scores) sum += s = expf(s - base);
    total = total * factor + row_sum(sum);
    top = most;
    return factor;
  }
};

// One block per tile of queries and head. Tiles of keys begin at multiples of kTile, so that a row's bits
// depend on its own sequence and position alone.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(T* y, float* log_sum_exp, const T* q, const T* k, const T* v, Problem p) {
  extern __shared__ float4 memory[];
  const SharedTile<kTile, kWidth> queries{reinterpret_cast<float*>(memory)};
  const SharedTile<kTile, kWidth> keys{queries.data + queries.kFloats};  // then their values
  const SharedTile<kTile, kTile> weights{keys.data + keys.kFloats};

  const auto head = static_cast<std::int32_t>(blockIdx.x) % p.heads;
  const Tile tile = find_tile<kTile>(p, static_cast<std::int32_t>((gridDim.x - 1 - blockIdx.x) / p.heads));
  if (tile.count <= 0) return;
  const std::int32_t kv_head = head / (p.heads / p.kv_heads), last = tile.last_position();
  const std::int32_t lowest = first_visible(p, tile.first_position());
  const KeyRows<T> key_rows(k, p, tile.segment, tile.segment_begin, kv_head);
  const KeyRows<T> value_rows(v, p, tile.segment, tile.segment_begin, kv_head);
  const auto row_at = [&](auto* of, int r) {
    return of + ((std::int64_t{tile.segment_begin} + tile.begin + r) * p.heads + head) * p.width;
  };

  queries.load(p.width, [&](int r) { return r < tile.count ? row_at(q, r) : nullptr; });
  Rows<kPerThread, kWidth> sums;
  RunningSoftmax softmax[kPerThread];
  sums.clear();
  for (std::int32_t begin = lowest / kTile * kTile; begin <= last; begin += kTile) {
    const std::uint32_t slot = key_rows.slot(begin);
    const auto exists = [&](int r) { return begin + r >= lowest && begin + r <= last; };
    float scores[kPerThread][kPerThread];
    __syncthreads();
    keys.load(p.width, [&](int r) { return exists(r) ? key_rows.row(slot, r) : nullptr; });
    __syncthreads();
    dot_rows<kPerThread, kWidth>(scores, queries, keys);
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const std::int32_t position = tile.first_position() + thread_row() + 16 * i;
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) {
        const bool seen = visible(p, position, begin + thread_column() + 16 * j);
        scores[i][j] = seen ? p.scale * scores[i][j] : -INFINITY;
      }
      sums.scale_row(i, softmax[i].add(scores[i]));
    }
    store_scores<kPerThread>(weights, scores);
    __syncthreads();  // scores are read off the keys: their memory takes the values
    keys.load(p.width, [&](int r) { return exists(r) ? value_rows.row(slot, r) : nullptr; });
    __syncthreads();
    sums.add(weights, keys);
  }
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int r = thread_row() + 16 * i;
    if (r >= tile.count) continue;
    sums.store(row_at(y, r), i, p.width, softmax[i].total);
    if (log_sum_exp != nullptr && thread_column() == 0) {
      log_sum_exp[(std::int64_t{tile.segment_begin} + tile.begin + r) * p.heads + head] =
          softmax[i].top + logf(softmax[i].total);
    }
  }
}

}  // namespace

void forward(Context& ctx, Tensor y, Tensor log_sum_exp, ConstTensor q, ConstTensor k, ConstTensor v,
             const Problem& p) {
  if (y.count() == 0) return;
  if (on_tensor_cores(q.dtype, p.width)) return forward_bf16(ctx, y, log_sum_exp, q, k, v, p);
  visit_activation("attention_forward", q.dtype, [&]<class T>() {
    visit_width(p.width, [&]<int kWidth>() {
      launch(ctx, forward_kernel<T, kWidth>, most_tiles(p, kTile) * p.heads, kThreads, kShared<kWidth>,
             pointer<T>(y), pointer<float>(log_sum_exp), pointer<T>(q), pointer<T>(k), pointer<T>(v), p);
    });
  });
}

}  // namespace braid::cuda::flash
