#include "braid/backends/cpu/short_convolution.h"

#include <cstring>

#include "braid/backends/cpu/kernels.h"
#include "braid/backends/cpu/partial_sums.h"
#include "braid/backends/cpu/segments.h"
#include "braid/backends/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/backends/cpu/short_convolution.cpp"
#include <hwy/foreach_target.h>

#include "braid/backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace braid::cpu::HWY_NAMESPACE {

// The sum over the taps that meet something, oldest first, at channel c. rows[w] is the input row of tap w;
// taps (W, C); `first` is the first tap that meets anything.
template <class Access>
HWY_INLINE VecF convolve(Access io, const float* const* rows, const float* taps, std::int64_t first,
                         const ConvolutionSizes& size, std::int64_t c) {
  VecF sum = zero();
  for (std::int64_t w = first; w < size.taps; ++w) {
    sum = hn::MulAdd(io.load(taps + w * size.channels + c), io.load(rows[w] + c), sum);
  }
  return sum;
}

void short_convolution_forward(Context& ctx, const Tensor (&y)[3], ConstTensor state, ConstTensor x,
                               ConstTensor taps, ops::Segments segments) {
  const ConvolutionSizes size{taps.shape[0], x.shape[1]};
  const float *in = x.as<float>(), *tap = taps.as<float>();
  const float* history = state.defined() ? state.as<float>() : nullptr;
  constexpr std::int64_t kTokens = 16;  // per task
  parallel_blocks(ctx, x.shape[0], kTokens, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t n = begin; n < end; ++n) {
      const float* rows[kMostTaps];
      const std::int64_t first = tap_rows(rows, in, history, segments, n, size);
      std::int64_t channel = 0;
      for (const Tensor& part : y) {
        const std::int64_t width = part.shape[1];
        float* out = part.as<float>() + n * width;
        const Destination to = destination_of(part, width);
        for_vectors(width, [&](std::int64_t c, auto io) HWY_ATTR {
          const VecF sum = convolve(io, rows, tap, first, size, channel + c);
          io.store(out + c, hn::Mul(sum, sigmoid(sum)), to);
        });
        channel += width;
      }
    }
    hwy::FlushStream();
  });
}

// Tokens [begin, end) of one segment that ends at `limit`, a run of channels at a time: the gradient of the
// convolution's sum goes to `work` (for W − 1 tokens beyond, too), then to dx and the taps' partial sums.
struct ConvolutionBackward {
  ConvolutionSizes size;
  const float *x, *taps;
  const ConstTensor (&dqkv)[3];
  float* dx;
  Destination to;  // of dx
  ops::Segments segments;

  void run(std::int64_t begin, std::int64_t end, std::int64_t limit, float* dtaps, float* work) const {
    std::int64_t channel = 0;
    for (const ConstTensor& part : dqkv) {
      const std::int64_t width = part.shape[1];
      for (std::int64_t c = 0; c < width; c += kChannelRun) {
        const std::int64_t run = std::min(kChannelRun, width - c);
        const std::int64_t reach = std::min(limit, end + size.taps - 1);
        for (std::int64_t n = begin; n < reach; ++n) {
          const float* dy = part.as<float>() + n * width + c;
          sum_gradient(n, n < end, dy, run, channel + c, work + (n - begin) * kChannelRun, dtaps);
        }
        for (std::int64_t n = begin; n < end; ++n) {
          input_gradient(n, std::min(size.taps, limit - n), run, channel + c,
                         work + (n - begin) * kChannelRun);
        }
      }
      channel += width;
    }
  }

  HWY_INLINE void sum_gradient(std::int64_t n, bool own, const float* dy, std::int64_t run,
                               std::int64_t channel, float* dsum, float* dtaps) const {
    const float* rows[kMostTaps];
    const std::int64_t first = tap_rows(rows, x, nullptr, segments, n, size);
    for_vectors(run, [&](std::int64_t c, auto io) HWY_ATTR {
      const VecF sum = convolve(io, rows, taps, first, size, channel + c);
      const VecF s = sigmoid(sum);
      const VecF slope = hn::MulAdd(hn::Mul(sum, s), hn::Sub(set(1.0f), s), s);
      const VecF d = hn::Mul(io.load(dy + c), slope);
      io.store(dsum + c, d);
      if (!own) return;
      for (std::int64_t w = first; w < size.taps; ++w) {
        float* at = dtaps + w * size.channels + channel + c;
        io.store(at, hn::MulAdd(d, io.load(rows[w] + channel + c), io.load(at)));
      }
    });
  }

  // dx of token n: the sums of `count` tokens from n on used it.
  HWY_INLINE void input_gradient(std::int64_t n, std::int64_t count, std::int64_t run, std::int64_t channel,
                                 const float* dsum) const {
    for_vectors(run, [&](std::int64_t c, auto io) HWY_ATTR {
      VecF d = zero();
      for (std::int64_t j = 0; j < count; ++j) {
        const VecF tap = io.load(taps + (size.taps - 1 - j) * size.channels + channel + c);
        d = hn::MulAdd(tap, io.load(dsum + j * kChannelRun + c), d);
      }
      io.store(dx + n * size.channels + channel + c, d, to);
    });
  }
};

// Whether each part begins at a whole vector of channels.
bool aligned_parts(const ConstTensor (&parts)[3]) {
  return std::ranges::all_of(parts, [](const ConstTensor& part) { return part.shape[1] % lanes() == 0; });
}

void short_convolution_backward(Context& ctx, Tensor dx, const ConvolutionScratch& scratch,
                                const ConstTensor (&dqkv)[3], ConstTensor x, ops::Segments segments) {
  const std::int64_t N = x.shape[0];
  const ConvolutionBackward backward{
      {scratch.taps.shape[0], x.shape[1]},
      x.as<float>(),
      scratch.taps.as<float>(),
      dqkv,
      dx.as<float>(),
      aligned_parts(dqkv) ? destination_of(dx, x.shape[1]) : Destination::caches,
      segments};
  const std::int32_t* offset = segments.offsets.as<std::int32_t>();
  const std::int64_t stride = scratch.work.shape[1];
  parallel_partial_sums(
      ctx, N, scratch.sums, [&](std::int64_t begin, std::int64_t end, float* dtaps, int thread) HWY_ATTR {
        while (begin < end) {
          const std::int64_t limit = offset[segment_of(segments, begin) + 1];
          backward.run(begin, std::min(end, limit), limit, dtaps, scratch.work.as<float>() + thread * stride);
          begin = std::min(end, limit);
        }
        flush_stores(backward.to);
      });
}

}  // namespace braid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid::cpu {
namespace {

// The last W − 1 of (old state, segment); ascending, so an old entry moves before it is overwritten.
void update_state(const Tensor& state, const ConstTensor& x, const ops::Segments& segments) {
  const std::int64_t C = x.shape[1], kept = state.shape[1];
  const std::int32_t* offset = segments.offsets.as<std::int32_t>();
  for (std::int64_t s = 0; s < segments.count(); ++s) {
    float* rows = state.as<float>() + s * kept * C;
    const std::int64_t length = offset[s + 1] - offset[s];
    if (length == 0) continue;
    for (std::int64_t i = 0; i < kept; ++i) {
      const std::int64_t from = length - kept + i;  // token of the segment
      const float* row = from >= 0 ? x.as<float>() + (offset[s] + from) * C : rows + (kept + from) * C;
      std::memcpy(rows + i * C, row, static_cast<std::size_t>(C) * 4);
    }
  }
}

// weight (C, W) to taps (W, C).
void transpose(const Tensor& taps, const ConstTensor& weight) {
  const std::int64_t C = weight.shape[0], W = weight.shape[1];
  for (std::int64_t c = 0; c < C; ++c) {
    for (std::int64_t w = 0; w < W; ++w) taps.as<float>()[w * C + c] = weight.as<float>()[c * W + w];
  }
}

void check(std::string_view op, const ConstTensor& x, const ConstTensor& weight,
           const ops::Segments& segments) {
  require_f32(op, {x});
  require_segments(op, segments, x.shape[0]);
  require(weight.shape[1] <= kMostTaps, "{}: weight is {}, at most {} taps are supported", op,
          describe(weight), kMostTaps);
}

}  // namespace

HWY_EXPORT(short_convolution_forward);
void short_convolution_forward(Context& ctx, ops::QkvOutputs y, Tensor state, ConstTensor x,
                               ConstTensor weight, ops::Segments segments) {
  check("short_convolution_forward", x, weight, segments);
  const Arena::Scope scope(*ctx.scratch);
  const Tensor taps = make_taps(ctx, weight);
  transpose(taps, weight);
  const Tensor parts[] = {y.q, y.k, y.v};
  HWY_DYNAMIC_DISPATCH(short_convolution_forward)(ctx, parts, state, x, taps, segments);
  if (state.defined()) update_state(state, x, segments);
}

void scratch::short_convolution_forward(Context& ctx, ops::QkvOutputs, Tensor, ConstTensor,
                                        ConstTensor weight, ops::Segments) {
  const Arena::Scope scope(*ctx.scratch);
  make_taps(ctx, weight);
}

HWY_EXPORT(short_convolution_backward);
void short_convolution_backward(Context& ctx, Tensor dx, Tensor dweight, ops::QkvInputs dqkv, ConstTensor x,
                                ConstTensor weight, ops::Segments segments) {
  check("short_convolution_backward", x, weight, segments);
  const Arena::Scope scope(*ctx.scratch);
  const ConvolutionScratch scratch = make_convolution_scratch(ctx, x, weight);
  transpose(scratch.taps, weight);
  const ConstTensor parts[] = {dqkv.q, dqkv.k, dqkv.v};
  HWY_DYNAMIC_DISPATCH(short_convolution_backward)(ctx, dx, scratch, parts, x, segments);
  std::fill_n(scratch.dtaps.as<float>(), scratch.dtaps.count(), 0.0f);
  add_partial_sums(scratch.dtaps, scratch.sums);
  const std::int64_t C = weight.shape[0], W = weight.shape[1];
  for (std::int64_t i = 0; i < C * W; ++i) {
    dweight.as<float>()[i] += scratch.dtaps.as<float>()[i % W * C + i / W];
  }
}

void scratch::short_convolution_backward(Context& ctx, Tensor, Tensor, ops::QkvInputs, ConstTensor x,
                                         ConstTensor weight, ops::Segments) {
  const Arena::Scope scope(*ctx.scratch);
  make_convolution_scratch(ctx, x, weight);
}

}  // namespace braid::cpu
#endif
