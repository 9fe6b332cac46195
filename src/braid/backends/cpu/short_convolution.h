// Scratch memory and row look-up of the short convolution.
#pragma once
#include "braid/backends/cpu/partial_sums.h"
#include "braid/backends/cpu/segments.h"

namespace braid::cpu {

inline constexpr std::int64_t kMostTaps = 16;
inline constexpr std::int64_t kChannelRun = 256;  // channels that backward works on at once

struct ConvolutionSizes {
  std::int64_t taps, channels;
};

// rows[w] = the input row that tap w meets at token n, from the segment or its state (S, W − 1, C), which
// may be null. Returns the first tap that meets anything.
inline std::int64_t tap_rows(const float** rows, const float* x, const float* state,
                             const ops::Segments& segments, std::int64_t n, const ConvolutionSizes& size) {
  const std::int64_t s = segment_of(segments, n), kept = size.taps - 1;
  const std::int64_t begin = segments.offsets.as<std::int32_t>()[s];
  std::int64_t first = 0;
  for (std::int64_t w = 0; w < size.taps; ++w) {
    const std::int64_t from = n - kept + w;
    if (from >= begin) {
      rows[w] = x + from * size.channels;
    } else if (state != nullptr) {
      rows[w] = state + (s * kept + kept + from - begin) * size.channels;
    } else {
      first = w + 1;
    }
  }
  return first;
}

inline Tensor make_taps(Context& ctx, const ConstTensor& weight) {
  return ctx.scratch->make(DType::f32, {weight.shape[1], weight.shape[0]});
}

struct ConvolutionScratch {
  Tensor taps, dtaps;  // (W, C)
  Tensor sums;         // partial sums of dtaps
  Tensor work;         // per thread
};

inline ConvolutionScratch make_convolution_scratch(Context& ctx, const ConstTensor& x,
                                                   const ConstTensor& weight) {
  const std::int64_t N = x.shape[0], W = weight.shape[1];
  return {.taps = make_taps(ctx, weight),
          .dtaps = make_taps(ctx, weight),
          .sums = make_partial_sums(ctx, N, weight.count()),
          .work = ctx.scratch->make(DType::f32,
                                    {state_of(ctx).threads, (partial_block(N) + W - 1) * kChannelRun})};
}

}  // namespace braid::cpu
