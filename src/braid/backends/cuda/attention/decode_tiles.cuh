// How decoding shares out the keys of all tokens: tiles of slots of the caches, in the order of tokens, heads
// and slots, an equal number to each block.
#pragma once
#include "braid/backends/cuda/attention/decode.cuh"
#include "braid/backends/cuda/attention/warp_softmax.cuh"

namespace braid::cuda::flash {

// The slots in which a token sees keys, up to its own, round the ring's end where it has wrapped: as tiles,
// one run of them or two.
struct Visible {
  std::int32_t position, current, tiles;  // current: the token's own slot

  __device__ __forceinline__ Visible(const Problem& p, std::int32_t token_position)
      : position(token_position) {
    const auto capacity = static_cast<std::int32_t>(p.capacity);
    current = position % capacity;
    const std::int32_t keys = min(position - first_visible(p, position) + 1, capacity),
                       lowest = current - keys + 1, last = current / kTileKeys;
    first_ = max(lowest, 0) / kTileKeys;
    tiles = first_count_ = last - first_ + 1;
    if (lowest < 0) {
      second_ = max((lowest + capacity) / kTileKeys, last + 1);
      tiles += max((capacity - 1) / kTileKeys - second_ + 1, 0);
    }
  }
  // The first slot of tile i.
  __device__ __forceinline__ std::int32_t slot(std::int32_t i) const {
    return (i < first_count_ ? first_ + i : second_ + (i - first_count_)) * kTileKeys;
  }
  __device__ __forceinline__ bool sees(const Problem& p, std::int32_t slot) const {
    const auto capacity = static_cast<std::int32_t>(p.capacity);
    const std::int32_t back = current - slot + (slot > current ? capacity : 0);
    return slot < capacity && back <= position && back < p.window;
  }
  // Whether the token sees all of the tile that begins there: both ends, and its own slot does not lie
  // between, where the oldest keys follow the newest.
  __device__ __forceinline__ bool sees_all_from(const Problem& p, std::int32_t slot) const {
    const std::int32_t end = slot + kTileKeys - 1;
    return sees(p, slot) && sees(p, end) && (current < slot || current >= end);
  }

 private:
  std::int32_t first_, first_count_, second_ = 0;
};

// Query heads that share a key/value head, as many as a block takes at once.
struct Head {
  std::int32_t token, index;  // the latter among the token's
  std::int64_t first_tile;    // among all tiles
  std::int32_t tiles;
};

// The order of all tiles: by token, head, slot.
struct Order {
  const Problem& p;
  std::int32_t heads;  // of a token

  __device__ __forceinline__ std::int32_t tiles_of(std::int64_t n) const {
    return n < p.tokens ? Visible(p, token_at(p, n).position).tiles : 0;
  }
  // The warp's tokens from `base` on: the sum of their tiles up to each lane's.
  __device__ __forceinline__ std::int64_t running_sum(std::int32_t tiles) const {
    std::int64_t sum = std::int64_t{tiles} * heads;
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const std::int64_t before = __shfl_up_sync(0xffffffffU, sum, step);
      if (lane >= step) sum += before;
    }
    return sum;
  }
  // All tiles; whole warps call.
  __device__ __forceinline__ std::int64_t count() const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    std::int64_t all = 0;
    for (std::int64_t base = 0; base < p.tokens; base += 32) {
      all += __shfl_sync(0xffffffffU, running_sum(tiles_of(base + lane)), 31);
    }
    return all;
  }
  // The head that tile `at` belongs to; whole warps call.
  __device__ __forceinline__ Head find(std::int64_t at) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    std::int64_t before = 0;
    for (std::int64_t base = 0;; base += 32) {
      const std::int32_t tiles = tiles_of(base + lane);
      const std::int64_t sum = before + running_sum(tiles), last = __shfl_sync(0xffffffffU, sum, 31);
      if (at < last || base + 32 >= p.tokens) {
        const int which = __ffs(static_cast<int>(__ballot_sync(0xffffffffU, at < sum))) - 1;
        const std::int64_t begin = __shfl_sync(0xffffffffU, sum - std::int64_t{tiles} * heads, which);
        const std::int32_t each = __shfl_sync(0xffffffffU, tiles, which);
        const auto index = static_cast<std::int32_t>((at - begin) / each);
        return {static_cast<std::int32_t>(base) + which, index, begin + std::int64_t{index} * each, each};
      }
      before = last;
    }
  }
  __device__ __forceinline__ Head next(const Head& head) const {
    const std::int64_t first = head.first_tile + head.tiles;
    if (head.index + 1 < heads) return {head.token, head.index + 1, first, head.tiles};
    return {head.token + 1, 0, first, tiles_of(head.token + 1)};
  }
};

// What each block has of all tiles.
struct Shares {
  std::int64_t all;
  __device__ __forceinline__ std::int64_t begin(std::int64_t block) const { return all * block / gridDim.x; }
  __device__ __forceinline__ std::int64_t block_of(std::int64_t tile) const {
    return ((tile + 1) * gridDim.x - 1) / all;
  }
};

}  // namespace braid::cuda::flash
