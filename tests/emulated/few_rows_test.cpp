// The kernel of products of a few rows, against the op's reference: blocks by themselves and in clusters.
#include "braid/backends/cuda/matmul/few_rows.cuh"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "tests/support/trial.h"

namespace braid::cuda::few_rows {
namespace {

struct Case {
  std::vector<std::int64_t> columns;  // of each product of the same rows
  std::int64_t inner, rows;
  int multiprocessors;
  bool gated = false, adds = false, precise = false;  // precise: products are f32, as logits are
};

std::string to_string(const Case& c) {
  return fmt::format("{} rows, inner {}, columns {}, {} multiprocessors{}{}{}", c.rows, c.inner,
                     fmt::join(c.columns, " "), c.multiprocessors, c.gated ? ", gated" : "",
                     c.adds ? ", added" : "", c.precise ? ", f32" : "");
}

EmulatedMap map_of(const ConstTensor& t, int rows) {
  return matrix_map(pointer<bf16>(t), t.shape[0], t.shape[1], kDepth, rows);
}

template <int kRows, bool kGated, int kUnits>
void launch(const Case& c, const Cut& cut, const Parts& parts, const Maps& maps, std::uint64_t seed) {
  std::vector<unsigned> clusters(static_cast<std::size_t>(cut.clusters));
  std::iota(clusters.begin(), clusters.end(), 0U);
  std::mt19937_64 random(seed);
  std::ranges::shuffle(clusters, random);
  const auto split = static_cast<unsigned>(cut.split);
  test::emulation::Launch launch{.blocks = {}, .threads = kThreads, .seed = seed, .cluster = split};
  for (const unsigned cluster : clusters) {
    for (unsigned rank = 0; rank < split; ++rank) launch.blocks.push_back(cluster * split + rank);
  }
  test::emulation::run(launch, [&] {
    few_rows_kernel<kRows, kGated, kUnits>(parts, maps, cut, static_cast<int>(c.rows), seed % 2 == 0);
  });
}

template <int kRows, bool kGated>
void run_as(const Case& c, std::uint64_t seed, const Cut& cut, const Parts& parts, const Maps& maps) {
  visit_units<kGated ? 2 : 1>(
      cut.units, [&]<int kUnits>() { launch<kRows, kGated, kUnits>(c, cut, parts, maps, seed); });
}

// split, units: of the cut that the case is there for.
void run(const Case& c, int split, int units) {
  const auto seed = static_cast<std::uint64_t>(c.inner + c.rows);
  SCOPED_TRACE(to_string(c));
  test::TestTensors t(seed, DType::bf16);
  auto reference = test::reference_context();
  const int kind = c.rows <= 16 ? 16 : 32, tile_parts = c.gated ? 2 : 1;
  const Cut cut = choose_cut(c.columns, c.inner, kind, c.gated, c.multiprocessors);
  EXPECT_EQ(cut.split, split);
  EXPECT_EQ(cut.units, units);

  const DType out = c.precise ? DType::f32 : DType::bf16;
  const Tensor x = t.normal("x", DType::bf16, {c.rows, c.inner}), exact_x = t.copy_of(x, DType::f64);
  std::vector<MatmulOperands> operands;
  std::vector<Tensor> want;
  const EmulatedMap row_map = map_of(x, kind);
  EmulatedMap weight_maps[ops::kMostLinearParts];
  Maps maps{.rows = tensor_map_of(row_map), .weights = {}};
  for (const std::int64_t n : c.columns) {
    const auto name = fmt::format("weight {}", operands.size());
    const Tensor weight = t.normal(name, DType::bf16, {tile_parts * n, c.inner},
                                   {.scale = 1 / std::sqrt(static_cast<double>(c.inner))});
    const Tensor exact_weight = t.copy_of(weight, DType::f64);
    const Tensor before = c.adds ? t.normal(name + " before", out, {c.rows, n}) : Tensor{};
    EmulatedMap& weight_map = weight_maps[operands.size()] = map_of(weight, cut.width / tile_parts);
    maps.weights[operands.size()] = tensor_map_of(weight_map);
    operands.push_back({t.make(out, {c.rows, n}), x, weight, before});
    want.push_back(t.make(DType::f64, {c.rows, n}));
    if (c.gated) {
      ops::swiglu_linear(*reference, want.back(), Tensor{}, exact_x, exact_weight);
    } else {
      const Tensor added = c.adds ? t.copy_of(before, DType::f64) : Tensor{};
      ops::matmul(*reference, want.back(), exact_x, exact_weight,
                  {.b = ops::Transpose::yes, .addend = added});
    }
  }
  std::int64_t tiles = 0;
  const Parts parts = make_parts(operands, cut.width / tile_parts, tiles);
  ASSERT_EQ(tiles, cut.tiles);
  if (kind == 16) {
    c.gated ? run_as<16, true>(c, seed, cut, parts, maps) : run_as<16, false>(c, seed, cut, parts, maps);
  } else {
    c.gated ? run_as<32, true>(c, seed, cut, parts, maps) : run_as<32, false>(c, seed, cut, parts, maps);
  }
  auto limit = test::tolerance_for(out, c.inner);
  if (c.gated) limit.relative_rms *= 1.75;  // gate and up are rounded too
  for (std::size_t i = 0; i < want.size(); ++i) test::expect_close(operands[i].c, want[i], limit, "product");
}

TEST(EmulatedFewRows, BlocksByThemselves) {
  // Every number of units to a warp; sides that no tile divides, rings filled more than once, several tiles
  // to a block, several products; rows for one and for two of the tensor cores' tiles.
  run({.columns = {70}, .inner = 136, .rows = 9, .multiprocessors = 3}, 1, 3);
  run({.columns = {150}, .inner = 1480, .rows = 16, .multiprocessors = 2, .adds = true}, 1, 10);
  run({.columns = {170}, .inner = 712, .rows = 31, .multiprocessors = 1, .precise = true}, 1, 22);
  run({.columns = {500}, .inner = 72, .rows = 12, .multiprocessors = 2}, 1, 32);
  run({.columns = {900}, .inner = 136, .rows = 32, .multiprocessors = 3, .adds = true}, 1, 19);
  run({.columns = {70, 3, 129}, .inner = 72, .rows = 16, .multiprocessors = 5}, 1, 3);
  run({.columns = {57}, .inner = 264, .rows = 10, .multiprocessors = 4, .gated = true}, 1, 2);
  run({.columns = {190}, .inner = 1032, .rows = 23, .multiprocessors = 2, .gated = true}, 1, 12);
}

// Two and four blocks to a tile, one to three units to a warp, one or two to a warp that finishes them, units
// that no number of blocks divides; rings filled more than once; tiles of several products; what is added is
// there or not.
TEST(EmulatedFewRows, Clusters) {
  run({.columns = {20}, .inner = 4104, .rows = 16, .multiprocessors = 6, .adds = true}, 2, 1);
  run({.columns = {20}, .inner = 2056, .rows = 9, .multiprocessors = 9}, 4, 2);
  run({.columns = {140}, .inner = 4104, .rows = 16, .multiprocessors = 4, .adds = true}, 2, 9);
  run({.columns = {140}, .inner = 2056, .rows = 16, .multiprocessors = 4, .gated = true}, 2, 9);
}
TEST(EmulatedFewRows, FullClusters) {
  run({.columns = {60}, .inner = 4104, .rows = 31, .multiprocessors = 5, .adds = true, .precise = true}, 4,
      8);
  run({.columns = {250}, .inner = 4104, .rows = 16, .multiprocessors = 9, .adds = true}, 4, 16);
  run({.columns = {520}, .inner = 4104, .rows = 20, .multiprocessors = 8, .adds = true}, 2, 17);
  run({.columns = {70, 3, 129}, .inner = 4104, .rows = 12, .multiprocessors = 8}, 2, 9);
  run({.columns = {90, 90}, .inner = 4104, .rows = 27, .multiprocessors = 9, .adds = true}, 4, 12);
  run({.columns = {60}, .inner = 4104, .rows = 32, .multiprocessors = 5, .gated = true}, 4, 8);
}

// What wrong blocks of a cluster would do.
TEST(EmulatedFewRows, MistakesOfClustersShow) {
  const test::emulation::Launch two{.blocks = {0, 1}, .threads = 32, .seed = 1, .cluster = 2};
  const float x[4] = {};
  const auto send = [&](unsigned to) {
    store_shared_of(static_cast<int>(to), shared_address(dynamic_shared()), x);
  };
  const auto meet = [] {
    arrive_at_cluster();
    wait_for_cluster();
  };
  EXPECT_THROW(test::emulation::run(two, [&] { send(1 - blockIdx.x); }), std::runtime_error)
      << "the other may not have begun";
  const auto late = [&] {
    meet();
    if (blockIdx.x == 1) return;
    for (int i = 0; i < 100; ++i) __syncwarp();
    send(1);
  };
  EXPECT_THROW(test::emulation::run(two, late), std::runtime_error) << "the other has ended";
  const auto twice = [] {
    if (blockIdx.x == 1) arrive_at_cluster();
    arrive_at_cluster();
    wait_for_cluster();
  };
  EXPECT_THROW(test::emulation::run(two, twice), std::runtime_error) << "arrives twice";
  const auto outside = [&] {
    meet();
    store_shared_of(1, shared_address(dynamic_shared()) + (1U << 20), x);
  };
  EXPECT_THROW(test::emulation::run(two, outside), std::runtime_error) << "no such memory";
  EXPECT_THROW(test::emulation::run({.blocks = {0, 1, 2}, .threads = 32, .seed = 1, .cluster = 2}, [] {}),
               std::invalid_argument);
}

}  // namespace
}  // namespace braid::cuda::few_rows
