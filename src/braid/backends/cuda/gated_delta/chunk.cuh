// Device-side: which chunk a block works on.
#pragma once
#include "braid/backends/cuda/device/approximate.cuh"
#include "braid/backends/cuda/device/math.cuh"
#include "braid/backends/cuda/device/tile.cuh"
#include "braid/backends/cuda/gated_delta/chunked_kernels.h"

namespace braid::cuda::chunked {

struct Chunk {
  std::int64_t begin;  // first token
  int rows;            // tokens in it; 0: the slot holds no chunk
};

// The chunk in `slot`: segments take slots from delta_chunk_slot(segment, offset) on, in order. By whole
// warps: all lanes look at once, since each look is a wait for memory.
__device__ __forceinline__ Chunk chunk_in(const DeviceSegments& segments, std::int64_t slot) {
  const auto first_slot = [&](int s) { return std::int64_t{segments.offsets[s] / kChunk + s}; };
  const int lane = static_cast<int>(threadIdx.x) % 32;
  std::int32_t low = 0, high = segments.count;
  while (high - low > 1) {
    const std::int32_t step = (high - low + 31) / 32, s = low + lane * step;
    const unsigned before = __ballot_sync(0xffffffffU, s < high && first_slot(s) <= slot);
    low += (__popc(before) - 1) * step;
    high = min(low + step, high);
  }
  const std::int64_t begin = segments.offsets[low] + (slot - first_slot(low)) * kChunk;
  const std::int64_t rest = segments.offsets[low + 1] - begin;
  return {begin, static_cast<int>(rest < 0 ? 0 : rest < kChunk ? rest : kChunk)};
}

// Elements of Q and K: row (token, key head) of width key_width.
struct Rows {
  std::int64_t first, pitch;
};
__device__ __forceinline__ Rows key_rows(const Problem& p, std::int64_t token, int head) {
  const std::int64_t key_head = head / (p.value_heads / p.key_heads);
  return {(token * p.key_heads + key_head) * p.key_width, std::int64_t{p.key_heads} * p.key_width};
}
__device__ __forceinline__ Rows value_rows(const Problem& p, std::int64_t token, int head) {
  return {(token * p.value_heads + head) * p.value_width, std::int64_t{p.value_heads} * p.value_width};
}

// β by which nothing can be divided: dβ then needs the gradient of the written value itself.
__device__ __forceinline__ bool is_tiny(float beta) { return fabsf(beta) < 0x1p-60F; }

// e^x for x ≤ 0 but for rounding.
__device__ __forceinline__ float decay(float x) { return fast_exp(fminf(x, 0.0F)); }

__device__ __forceinline__ float2 shared_pair(const float* p) { return *reinterpret_cast<const float2*>(p); }

}  // namespace braid::cuda::chunked
