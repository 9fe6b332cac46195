// Launches decoding of many tokens (decode_stream.cuh).
#include "braid/backends/cuda/attention/decode_stream.cuh"
#include "braid/backends/cuda/tensor_map.h"

namespace braid::cuda::flash {
namespace {

// Whole boxes beside each other are one of five dimensions. Beyond the width a box has zeros.
bool has_whole_boxes(std::int64_t width) { return width % kBoxWidth == 0; }
CUtensorMap map_of(const ConstTensor& cache, int boxes) {
  const auto S = cache.shape[0], C = cache.shape[1], H = cache.shape[2], D = cache.shape[3];
  const auto extent = [](std::int64_t n) { return static_cast<std::uint64_t>(n); };
  const bool whole = has_whole_boxes(D);
  return make_tensor_map(
      {.data = cache.data,
       .shape = {extent(whole ? kBoxWidth : D), extent(H), extent(C), extent(whole ? D / kBoxWidth : 1),
                 extent(S)},
       .stride_bytes = {extent(2 * D), extent(2 * H * D), 2 * kBoxWidth, extent(2 * C * H * D)},
       .box = {kBoxWidth, 1, kTileKeys, static_cast<std::uint32_t>(whole ? boxes : 1), 1}});
}

bool can_stream(const ops::AttentionInputs& in) {
  return in.q.dtype == DType::bf16 && in.q.shape[2] % 8 == 0;
}
std::int64_t queries_of(const ops::AttentionInputs& in) {
  return in.q.shape[1] == in.k.shape[1] ? 1 : kManyQueries;
}
// Of a token.
std::int64_t heads_of(const ops::AttentionInputs& in) {
  return in.k.shape[1] * ceil_div(in.q.shape[1] / in.k.shape[1], queries_of(in));
}

}  // namespace

// With fewer heads some blocks would have nothing, the first loads are nearly all, and blocks of their own
// begin sooner.
bool streams(const Context& ctx, const ops::AttentionInputs& in, const Problem& p) {
  return can_stream(in) && p.scale > 0 && in.q.shape[0] * heads_of(in) >= state_of(ctx).multiprocessors;
}

std::int64_t stream_rows(const Context& ctx, const ops::AttentionInputs& in) {
  return can_stream(in) ? 2 * state_of(ctx).multiprocessors * queries_of(in) : 0;
}

void decode_stream(Context& ctx, Tensor y, const ops::KeyValueCache& cache, const ops::AttentionInputs& in,
                   bool append, const DecodeScratch& scratch, const Problem& p) {
  const State& state = state_of(ctx);
  visit_width(p.width, [&]<int kWidth>() {
    const auto launch_with = [&]<int kQueries>() {
      constexpr int kBoxes = kWidth / kBoxWidth;
      const int stages = stages_of<kWidth, kQueries>(static_cast<int>(state.shared_bytes));
      const int bytes = 1024 + stages * kStageBytes<kWidth> + kJoinBytes<kWidth, kQueries>;
      const StreamArguments arguments{.y = pointer<bf16>(y),
                                      .sums = pointer<float>(scratch.sums),
                                      .stats = pointer<float>(scratch.stats),
                                      .arrived = state.meetings,
                                      .q = pointer<bf16>(in.q),
                                      .k = pointer<bf16>(cache.k),
                                      .v = pointer<bf16>(cache.v),
                                      .k_fresh = append ? pointer<bf16>(in.k) : nullptr,
                                      .v_fresh = append ? pointer<bf16>(in.v) : nullptr,
                                      .query_blocks = static_cast<std::int32_t>(heads_of(in) / p.kv_heads),
                                      .stages = stages,
                                      .boxes = has_whole_boxes(p.width) ? 1 : kBoxes,
                                      .ahead = append && ctx.fetch == Fetch::ahead};
      const auto kernel = stream_kernel<kWidth, kQueries>;
      check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                 "attention_cached");
      launch_early(ctx, "attention_cached", kernel,
                   {.grid = dim3(static_cast<unsigned>(state.multiprocessors)),
                    .threads = 32 * kWarps<kWidth> + 32,
                    .shared_bytes = static_cast<std::size_t>(bytes)},
                   arguments, p, CacheMaps{map_of(cache.k, kBoxes), map_of(cache.v, kBoxes)});
    };
    if (queries_of(in) == 1) return launch_with.template operator()<1>();
    launch_with.template operator()<kManyQueries>();
  });
}

}  // namespace braid::cuda::flash
