// Device side of the attention kernels: which tokens a block works on and where their keys lie.
#pragma once
#include <type_traits>

#include "braid/backends/cuda/attention/visible.cuh"

namespace braid::cuda::flash {

// At most this many tiles of `rows` tokens, none across a segment boundary: tile slots offsets[s] / rows + s
// and on belong to segment s, which needs no more than the distance to the next segment's first.
inline std::int64_t most_tiles(const Problem& p, std::int64_t rows) { return p.tokens / rows + p.segments; }

// Consecutive tokens of one segment.
struct Tile {
  std::int32_t segment, segment_begin, segment_length;
  std::int32_t begin;   // first token, counted from the segment's
  std::int32_t count;   // not positive: the slot is surplus
  std::int32_t cached;  // positions before the segment's first token
  __device__ std::int32_t first_position() const { return cached + begin; }
  __device__ std::int32_t last_position() const { return cached + begin + count - 1; }
};

// By all lanes of a warp, which look at 32 segments at a time.
template <int kRows>
__device__ __forceinline__ Tile find_tile(const Problem& p, std::int32_t slot) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  std::int32_t low = 0, high = p.segments;  // low's slots begin at or before `slot`, high's after it
  while (high - low > 1) {
    const std::int32_t step = (high - low + 31) / 32, probe = low + lane * step;
    const bool before = probe < high && p.offsets[probe] / kRows + probe <= slot;
    low += (__popc(__ballot_sync(0xffffffffU, before)) - 1) * step;
    high = min(low + step, high);
  }
  const std::int32_t segment_begin = p.offsets[low], length = p.offsets[low + 1] - segment_begin;
  const std::int32_t begin = (slot - segment_begin / kRows - low) * kRows;
  return {low,
          segment_begin,
          length,
          begin,
          min(kRows, length - begin),
          p.lengths != nullptr ? p.lengths[low] : 0};
}

// The key or value rows of one head of one sequence.
template <class T>
struct KeyRows {
  const T* base;
  std::int64_t stride;
  std::uint32_t capacity;

  __device__ KeyRows(const T* all, const Problem& p, std::int32_t segment, std::int32_t segment_begin,
                     std::int32_t kv_head)
      : stride(std::int64_t{p.kv_heads} * p.width), capacity(p.capacity) {
    const std::int64_t first = p.lengths != nullptr ? std::int64_t{segment} * p.capacity : segment_begin;
    base = all + first * stride + std::int64_t{kv_head} * p.width;
  }
  __device__ std::uint32_t slot(std::int32_t position) const {
    return static_cast<std::uint32_t>(position) % capacity;
  }
  // The row `steps` positions after that in `slot`; the remainder is rarely taken.
  __device__ const T* row(std::uint32_t first_slot, std::int32_t steps) const {
    std::uint32_t at = first_slot + static_cast<std::uint32_t>(steps);
    if (at >= capacity) at %= capacity;
    return base + at * stride;
  }
};

// Lets a kernel have `bytes` of dynamic shared memory, and launches it.
template <class... P>
void launch(const Context& ctx, void (*kernel)(P...), std::int64_t blocks, int threads, std::size_t bytes,
            std::type_identity_t<P>... arguments) {
  require(blocks <= std::numeric_limits<std::int32_t>::max(),
          "attention: {} blocks are too many for one launch", blocks);
  const auto* function = reinterpret_cast<const void*>(kernel);
  check_cuda(
      cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
  void* pointers[] = {&arguments...};
  check_cuda(cudaLaunchKernel(function, dim3(static_cast<unsigned>(blocks)), dim3(threads), pointers, bytes,
                              stream_of(ctx)));
}

}  // namespace braid::cuda::flash
