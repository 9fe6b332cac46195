// The shapes every op is tested and timed with, listed once.
#pragma once
#include <string>
#include <vector>

#include "braid/core/tensor.h"

namespace braid::test {

using Lengths = std::vector<std::int64_t>;

// Runs of tokens around the sizes where kernels change path (SIMD widths, 64-token chunks), and packs of
// them.
inline std::vector<Lengths> segment_cases() {
  return {{0},
          {1},
          {15},
          {16},
          {17},
          {63},
          {64},
          {65},
          {127},
          {129},
          {1, 1, 1},
          {0, 5, 0},
          {3, 2, 4},
          {64, 64},
          {63, 65, 1},
          {129, 0, 1, 127},
          {0, 1, 15, 16, 17, 63, 64, 65}};
}
// For gradient checks by differences, where each input element costs two forward passes.
inline std::vector<Lengths> small_segment_cases() { return {{1}, {5}, {0, 3, 1}, {2, 0, 4}}; }

struct RowsCase {
  std::int64_t rows, width;
};
inline std::vector<RowsCase> rows_cases() {
  return {{0, 8},   {1, 1},   {1, 64},   {2, 7},     {3, 20},  {5, 12},
          {17, 33}, {64, 96}, {65, 192}, {129, 256}, {3, 1000}};
}

struct MatmulCase {
  std::int64_t m, n, k;
};
inline std::vector<MatmulCase> matmul_cases() {
  return {{0, 4, 3},    {1, 1, 1},     {1, 64, 96},   {2, 3, 5},     {7, 1, 33},      {16, 16, 16},
          {17, 20, 12}, {1, 257, 129}, {33, 65, 127}, {64, 192, 96}, {129, 100, 256}, {5, 8, 1000}};
}

struct HeadsCase {
  std::int64_t heads, width;
};
inline std::vector<HeadsCase> heads_cases() { return {{1, 2}, {2, 12}, {3, 20}, {2, 64}, {1, 128}}; }

struct AttentionCase {
  std::int64_t heads, kv_heads, width, window;
  Lengths lengths;
};
inline std::string to_string(const AttentionCase& c) {
  return fmt::format("heads {}/{} width {} window {} lengths {}", c.heads, c.kv_heads, c.width, c.window,
                     fmt::join(c.lengths, " "));
}
inline std::vector<AttentionCase> attention_cases() {
  std::vector<AttentionCase> cases;
  for (const auto& lengths : segment_cases()) {
    for (const std::int64_t window : {0, 1, 16, 1000}) cases.push_back({2, 1, 12, window, lengths});
  }
  for (const std::int64_t window : {0, 16, 64}) {
    cases.push_back({1, 1, 1, window, {17, 3}});
    cases.push_back({3, 3, 20, window, {65, 0, 17}});
    cases.push_back({6, 2, 24, window, {33, 40}});
    cases.push_back({3, 1, 64, window, {129, 1}});
    cases.push_back({4, 2, 128, window, {70}});
  }
  return cases;
}
inline std::vector<AttentionCase> small_attention_cases() {
  return {{1, 1, 1, 0, {3}},
          {2, 1, 3, 0, {4, 0, 1}},
          {2, 2, 2, 2, {5}},
          {4, 2, 2, 1, {2, 3}},
          {2, 1, 4, 100, {4}}};
}

struct ConvolutionCase {
  std::int64_t q, k, v, taps;  // channels
  Lengths lengths;
};
inline std::string to_string(const ConvolutionCase& c) {
  return fmt::format("channels {} {} {} taps {} lengths {}", c.q, c.k, c.v, c.taps,
                     fmt::join(c.lengths, " "));
}
inline std::vector<ConvolutionCase> convolution_cases() {
  std::vector<ConvolutionCase> cases;
  for (const auto& lengths : segment_cases()) cases.push_back({12, 12, 20, 4, lengths});
  for (const std::int64_t taps : {1, 2, 3, 4, 5, 8}) {
    cases.push_back({1, 1, 1, taps, {1, 0, 2, 3, 9}});
    cases.push_back({24, 24, 48, taps, {33, 1, 2}});
  }
  cases.push_back({96, 96, 192, 4, {65, 3}});
  return cases;
}
inline std::vector<ConvolutionCase> small_convolution_cases() {
  return {{1, 1, 2, 4, {5}}, {2, 1, 1, 3, {1, 0, 4}}, {1, 2, 1, 1, {3}}, {1, 1, 1, 4, {2, 1, 6}}};
}

struct GatedDeltaCase {
  std::int64_t key_heads, value_heads, key_width, value_width;
  Lengths lengths;
};
inline std::string to_string(const GatedDeltaCase& c) {
  return fmt::format("heads {}/{} widths {}/{} lengths {}", c.key_heads, c.value_heads, c.key_width,
                     c.value_width, fmt::join(c.lengths, " "));
}
inline std::vector<GatedDeltaCase> gated_delta_cases() {
  std::vector<GatedDeltaCase> cases;
  for (const auto& lengths : segment_cases()) cases.push_back({1, 2, 12, 20, lengths});
  for (const Lengths& lengths : {Lengths{70}, Lengths{1, 0, 65, 2}}) {
    cases.push_back({1, 1, 1, 1, lengths});
    cases.push_back({3, 3, 24, 12, lengths});
    cases.push_back({2, 6, 16, 32, lengths});
    cases.push_back({2, 2, 64, 64, lengths});
    cases.push_back({1, 2, 96, 192, lengths});
    cases.push_back({1, 1, 128, 256, lengths});
  }
  return cases;
}
inline std::vector<GatedDeltaCase> small_gated_delta_cases() {
  return {{1, 1, 2, 1, {3}},
          {1, 2, 3, 2, {4, 0, 1}},
          {2, 2, 2, 3, {5}},
          {1, 3, 4, 2, {2, 3}},
          {1, 1, 2, 2, {67}}};
}

}  // namespace braid::test
