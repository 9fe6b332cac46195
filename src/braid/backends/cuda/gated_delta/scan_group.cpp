#include "braid/backends/cuda/gated_delta/scan_group.h"

namespace braid::cuda::chunked {
namespace {

constexpr std::uint64_t kElement = 2;

CUtensorMap key_map(const Problem& p, const bf16* keys) {
  const auto width = static_cast<std::uint64_t>(p.key_width), heads = static_cast<std::uint64_t>(p.key_heads);
  return make_tensor_map({.data = keys,
                          .shape = {32, static_cast<std::uint64_t>(p.tokens), width / 32, heads},
                          .stride_bytes = {heads * width * kElement, 32 * kElement, width * kElement},
                          .box = {32, kChunk, static_cast<std::uint32_t>(p.key_width / 32), 1}});
}

}  // namespace

ScanTensors scan_tensors(const Problem& p, const Inputs& in, const bf16* values, const Chunks& chunks) {
  const auto key_width = static_cast<std::uint64_t>(p.key_width),
             value_width = static_cast<std::uint64_t>(p.value_width),
             heads = static_cast<std::uint64_t>(p.value_heads),
             rows = static_cast<std::uint64_t>(p.slots) * heads * kChunk;
  return {.keys = key_map(p, in.k),
          .queries = key_map(p, in.q),
          .values = make_tensor_map({.data = values,
                                     .shape = {value_width, static_cast<std::uint64_t>(p.tokens), heads},
                                     .stride_bytes = {heads * value_width * kElement, value_width * kElement},
                                     .box = {kSlice, kChunk, 1}}),
          .written = make_tensor_map({.data = chunks.written,
                                      .shape = {32, rows, key_width / 32},
                                      .stride_bytes = {key_width * kElement, 32 * kElement},
                                      .box = {32, kChunk, static_cast<std::uint32_t>(p.key_width / 32)}}),
          .response = make_tensor_map({.data = chunks.response,
                                       .shape = {kChunk, rows},
                                       .stride_bytes = {kChunk * kElement},
                                       .box = {kChunk, kChunk}})};
}

}  // namespace braid::cuda::chunked
