// Attention of prefill and decode: appends to the caches, then takes one of several ways through them.
#include "braid/backends/cuda/attention/cudnn.h"
#include "braid/backends/cuda/attention/tiles.cuh"
#include "braid/backends/cuda/device/early.cuh"
#include "braid/backends/cuda/device/math.cuh"
#include "braid/backends/cuda/device/segments.cuh"
#include "braid/backends/cuda/kernels.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kFewTokens = 8;     // up to here a sequence's tokens each read the cache on their own
constexpr std::int64_t kManyTokens = 256;  // from here on a plan of cuDNN's is worth making

// Tokens into their slots, `width` elements of E (one value, or 16 bytes of them) each. The capacity holds
// whatever the call's tokens still see, so that no slot is taken that one of them needs.
template <class E>
__global__ void __launch_bounds__(kThreads)
    append_kernel(E* k_cache, E* v_cache, const E* k, const E* v, std::int64_t width, flash::Problem p) {
  begin_early();
  const DeviceSegments segments{p.offsets, p.segments};
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < p.tokens * width;
       i += stride) {
    const std::int64_t n = i / width;
    const std::int32_t s = segments.segment_of(n);
    const std::int64_t position = p.lengths[s] + n - p.offsets[s];
    const std::int64_t to = (std::int64_t{s} * p.capacity + position % p.capacity) * width + i % width;
    k_cache[to] = k[i];
    v_cache[to] = v[i];
  }
}

template <class E>
void append(Context& ctx, const ops::KeyValueCache& cache, const ops::AttentionInputs& in, std::int64_t width,
            const flash::Problem& p) {
  launch_early(ctx, "attention_cached", append_kernel<E>,
               {dim3(grid_for(ctx, p.tokens * width, kThreads)), kThreads}, pointer<E>(cache.k),
               pointer<E>(cache.v), pointer<E>(in.k), pointer<E>(in.v), width, p);
}
void append(Context& ctx, const ops::KeyValueCache& cache, const ops::AttentionInputs& in,
            const flash::Problem& p) {
  visit_activation("attention_cached", in.k.dtype, [&]<class T>() {
    const auto width = in.k.shape[1] * in.k.shape[2];
    if (width % Pack<T>::kSize == 0) return append<Pack<T>>(ctx, cache, in, width / Pack<T>::kSize, p);
    append<T>(ctx, cache, in, width, p);
  });
}

// Strict arithmetic keeps to the kernel whose rows do not depend on the call's shape.
bool few_tokens(const Context& ctx, const ops::AttentionInputs& in, const ops::Segments& segments) {
  if (ctx.arithmetic == Arithmetic::strict || !flash::decode_supports(in)) return false;
  return in.q.shape[0] <= segments.count() || (segments.longest > 0 && segments.longest <= kFewTokens);
}

enum class Way : std::uint8_t {
  decode,  // few tokens, each of which reads the cache on its own
  packed,  // the caches were empty: cuDNN on the call's own keys, as in training
  cached,  // cuDNN on the caches
  own
};
Way way_of(const Context& ctx, const ops::KeyValueCache& cache, const ops::AttentionInputs& in,
           const ops::Segments& segments, const ops::AttentionOptions& options) {
  if (few_tokens(ctx, in, segments)) return Way::decode;
  const std::int64_t longest = segments.longest > 0 ? segments.longest : in.q.shape[0];
  if (ctx.arithmetic == Arithmetic::strict || longest < kManyTokens) return Way::own;
  if (cache.longest == 0 && cudnn::supports_forward(in, segments, options)) return Way::packed;
  return cudnn::supports_cached(in, cache, segments, options) ? Way::cached : Way::own;
}

// What training would keep for backward.
Tensor make_log_sum_exp(Context& ctx, const ops::AttentionInputs& in) {
  return ctx.scratch->make(DType::f32, {in.q.shape[0], in.q.shape[1]});
}

}  // namespace

void attention_cached(Context& ctx, Tensor y, ops::KeyValueCache cache, ops::AttentionInputs in,
                      ops::Segments segments, ConstTensor lengths, ops::AttentionOptions options) {
  auto p = flash::make_problem("attention_cached", in, segments, options);
  const auto capacity = cache.k.shape[1];
  require(capacity <= std::numeric_limits<std::int32_t>::max(),
          "attention_cached: cache.k is {}: too many slots", describe(cache.k));
  if (y.count() == 0 || capacity == 0) return;
  p.lengths = pointer<std::int32_t>(lengths);
  p.capacity = static_cast<std::uint32_t>(capacity);
  const Way way = way_of(ctx, cache, in, segments, options);
  const bool appends = way == Way::decode && segments.longest == 1;  // on the way
  if (!appends) append(ctx, cache, in, p);
  const Arena::Scope scope(*ctx.scratch);
  switch (way) {
    case Way::decode:
      return flash::decode(ctx, y, cache, in, appends, flash::make_decode_scratch(ctx, in, cache, options),
                           p);
    case Way::packed:
      return cudnn::forward(ctx, y, make_log_sum_exp(ctx, in), in, segments, options);
    case Way::cached:
      return cudnn::forward_cached(ctx, y, cache, in, segments, lengths, options);
    case Way::own:
      return flash::forward(ctx, y, {}, in.q, cache.k, cache.v, p);
  }
}

void scratch::attention_cached(Context& ctx, Tensor y, ops::KeyValueCache cache, ops::AttentionInputs in,
                               ops::Segments segments, ConstTensor, ops::AttentionOptions options) {
  if (in.q.count() == 0 || cache.k.shape[1] == 0) return;
  const Arena::Scope scope(*ctx.scratch);
  switch (way_of(ctx, cache, in, segments, options)) {
    case Way::decode:
      flash::make_decode_scratch(ctx, in, cache, options);
      return;
    case Way::packed:
      return cudnn::forward_scratch(ctx, y, make_log_sum_exp(ctx, in), in, segments, options);
    case Way::cached:
      return cudnn::forward_cached_scratch(ctx, cache, in, segments, options);
    case Way::own:
      return;
  }
}

}  // namespace braid::cuda
