// What the kernels of decoding share: few new tokens, each of which reads its sequence's cache on its own.
#pragma once
#include "braid/backends/cuda/attention/visible.cuh"
#include "braid/backends/cuda/device/segments.cuh"

namespace braid::cuda::flash {

struct Token {
  std::int32_t segment, position;
};
__device__ __forceinline__ Token token_at(const Problem& p, std::int64_t n) {
  // Mostly a token is a segment, which is seen without a search.
  std::int32_t s = 0;
  if (n < p.segments && p.offsets[n] == n && p.offsets[n + 1] > n) {
    s = static_cast<std::int32_t>(n);
  } else {
    s = DeviceSegments{p.offsets, p.segments}.segment_of(n);
  }
  return {s, p.lengths[s] + static_cast<std::int32_t>(n) - p.offsets[s]};
}

// decode_stream.cu: whether it takes the call, the rows of scratch that it may need, and the call.
bool streams(const Context&, const ops::AttentionInputs&, const Problem&);
std::int64_t stream_rows(const Context&, const ops::AttentionInputs&);
void decode_stream(Context&, Tensor y, const ops::KeyValueCache&, const ops::AttentionInputs&, bool append,
                   const DecodeScratch&, const Problem&);

}  // namespace braid::cuda::flash
