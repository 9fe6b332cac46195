// Flash attention on the tensor cores through mma.sync: eight warps of 16 queries each, keys and values
// double-buffered in shared memory by cp.async, the queries and the softmax weights in registers.
#include "braid/backends/cuda/attention/products_bf16.cuh"
#include "braid/backends/cuda/attention/tiles.cuh"
#include "braid/backends/cuda/device/approximate.cuh"

namespace braid::cuda::flash {
namespace {

constexpr int kThreads = 256, kQueries = 128, kKeys = 64;

template <int kWidth>
constexpr std::size_t kShared = sizeof(bf16) * 4 * kKeys* kWidth;

// Row r of kRows in `to` comes from row_at(r); where that is null, and beyond `width`, zeros.
template <int kRows, int kWidth, class F>
__device__ __forceinline__ void copy_tile(const HeadRows<kWidth>& to, std::int32_t width, const bf16* valid,
                                          F&& row_at) {
  constexpr int kPackets = HeadRows<kWidth>::kPackets, kRowsAtOnce = kThreads / kPackets;
  const int packet = static_cast<int>(threadIdx.x) % kPackets,
            first = static_cast<int>(threadIdx.x) / kPackets;
#pragma unroll
  for (int i = 0; i < kRows / kRowsAtOnce; ++i) {
    const int r = first + i * kRowsAtOnce;
    const bf16* from = row_at(r);
    const bool exists = from != nullptr && packet * 8 < width;
    copy_async(to.at(r, packet), exists ? from + packet * 8 : valid, exists);
  }
}

// One warp's 16 queries. Lane l works on rows l / 4 and l / 4 + 8.
template <int kWidth>
struct Queries {
  LeftRows<kWidth> q;
  float sums[kWidth / 8][4] = {};
  float top[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};  // base 2

  // Turns scores (base 2) into weights and rescales what was summed before.
  __device__ __forceinline__ void soften(float (&scores)[kKeys / 8][4]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = top[half];
#pragma unroll
      for (const auto& s : scores) most = fmaxf(most, fmaxf(s[2 * half], s[2 * half + 1]));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, 2));
      const float base = most == -INFINITY ? 0.0F : most;  // nothing visible yet
      const float factor = fast_exp2(top[half] - base);
      float sum = 0;
#pragma unroll
      for (auto& s : scores) {
        s[2 * half] = fast_exp2(s[2 * half] - base);
        s[2 * half + 1] = fast_exp2(s[2 * half + 1] - base);
        sum += s[2 * half] + s[2 * half + 1];
      }
      total[half] = total[half] * factor + sum;  // of this lane's keys; the quad adds up at the end
      top[half] = most;
#pragma unroll
      for (auto& s : sums) {
        s[2 * half] *= factor;
        s[2 * half + 1] *= factor;
      }
    }
  }
};

// Scales the scores to base 2 and hides the keys that a query does not see. `position` is that of the lane's
// first query, `key` that of its first key.
__device__ __forceinline__ void mask(float (&scores)[kKeys / 8][4], const Problem& p, bool everything,
                                     std::int32_t position, std::int32_t key) {
  const float scale = p.scale * kLog2E;
#pragma unroll
  for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool seen = either(everything, visible(p, position + i / 2 * 8, key + 8 * n + i % 2));
      scores[n][i] = seen ? scores[n][i] * scale : -INFINITY;
    }
  }
}

// One block per tile of queries and head; tiles of keys begin at multiples of kKeys.
template <int kWidth>
__global__ void __launch_bounds__(kThreads, kWidth == 64 ? 2 : 1)
    forward_kernel(bf16* y, float* log_sum_exp, const bf16* q, const bf16* k, const bf16* v, Problem p) {
  const SharedAddress base = shared_address(dynamic_shared());
  // Keys, values, keys, values; the queries begin in the second pair's place.
  const auto buffer = [&](int i) { return HeadRows<kWidth>{base + i * kKeys * kWidth * 2}; };

  const auto head = static_cast<std::int32_t>(blockIdx.x) % p.heads;
  const Tile tile = find_tile<kQueries>(p, static_cast<std::int32_t>((gridDim.x - 1 - blockIdx.x) / p.heads));
  if (tile.count <= 0) return;
  const std::int32_t kv_head = head / (p.heads / p.kv_heads), last = tile.last_position();
  const std::int32_t lowest = first_visible(p, tile.first_position()), begin = lowest / kKeys * kKeys;
  const KeyRows<bf16> key_rows(k, p, tile.segment, tile.segment_begin, kv_head);
  const KeyRows<bf16> value_rows(v, p, tile.segment, tile.segment_begin, kv_head);
  const auto row_of = [&](int r) {
    return (std::int64_t{tile.segment_begin} + tile.begin + r) * p.heads + head;
  };
  const auto copy_keys = [&](std::int32_t first, int to) {
    const std::uint32_t slot = key_rows.slot(first);
    const auto exists = [&](int r) { return first + r >= lowest && first + r <= last; };
    copy_tile<kKeys>(buffer(to), p.width, q,
                     [&](int r) { return exists(r) ? key_rows.row(slot, r) : nullptr; });
    copy_tile<kKeys>(buffer(to + 1), p.width, q,
                     [&](int r) { return exists(r) ? value_rows.row(slot, r) : nullptr; });
  };

  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16, lane = static_cast<int>(threadIdx.x) % 32;
  copy_tile<kQueries>(buffer(2), p.width, q,
                      [&](int r) { return r < tile.count ? q + row_of(r) * p.width : nullptr; });
  copy_keys(begin, 0);
  commit_copies();
  wait_for_copies<0>();
  __syncthreads();
  Queries<kWidth> queries;
  queries.q.load(buffer(2), warp_row, lane);
  __syncthreads();  // the queries' memory takes the second keys

  const std::int32_t first_query = tile.first_position() + warp_row, last_query = first_query + 15;
  int at = 0;
  for (std::int32_t first = begin; first <= last; first += kKeys, at ^= 2) {
    if (first + kKeys <= last) copy_keys(first + kKeys, at ^ 2);
    if (first <= last_query && first + kKeys - 1 > first_query - p.window) {  // the warp sees some of them
      float scores[kKeys / 8][4];  // scores[n]: of keys 8 n to 8 n + 7
      dot_rows<kKeys>(scores, queries.q, buffer(at), 0, lane);
      const bool everything = first + kKeys - 1 <= first_query && first > last_query - p.window;
      mask(scores, p, everything, first_query + lane / 4, first + lane % 4 * 2);
      queries.soften(scores);
      add_rows<kKeys>(queries.sums, scores, buffer(at + 1), 0, lane);
    }
    commit_copies();
    wait_for_copies<0>();
    __syncthreads();
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = warp_row + lane / 4 + 8 * half;
    float total = queries.total[half];
    total += __shfl_xor_sync(0xffffffffU, total, 1);
    total += __shfl_xor_sync(0xffffffffU, total, 2);
    if (r >= tile.count) continue;
    bf16* to = y + row_of(r) * p.width + lane % 4 * 2;
#pragma unroll
    for (int d = 0; d < kWidth / 8; ++d) {
      if (8 * d >= p.width) break;
      *reinterpret_cast<std::uint32_t*>(to + 8 * d) =
          PackedBf16::pack(queries.sums[d][2 * half] / total, queries.sums[d][2 * half + 1] / total);
    }
    if (log_sum_exp != nullptr && lane % 4 == 0) {
      log_sum_exp[row_of(r)] = (queries.top[half] + log2f(total)) / kLog2E;
    }
  }
}

}  // namespace

void forward_bf16(Context& ctx, Tensor y, Tensor log_sum_exp, ConstTensor q, ConstTensor k, ConstTensor v,
                  const Problem& p) {
  if (y.count() == 0) return;
  const auto run = [&]<int kWidth>() {
    launch(ctx, forward_kernel<kWidth>, most_tiles(p, kQueries) * p.heads, kThreads, kShared<kWidth>,
           pointer<bf16>(y), pointer<float>(log_sum_exp), pointer<bf16>(q), pointer<bf16>(k),
           pointer<bf16>(v), p);
  };
  if (p.width <= 64) {
    run.template operator()<64>();
  } else {
    run.template operator()<128>();
  }
}

}  // namespace braid::cuda::flash
