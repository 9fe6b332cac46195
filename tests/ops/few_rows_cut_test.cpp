// How the GPU's products of a few rows are shared out; a pure function, so that it needs no GPU.
#include "braid/backends/cuda/matmul/few_rows_cut.h"

#include <gtest/gtest.h>

#include <vector>

namespace braid {
namespace {

using cuda::few_rows::choose_cut;
using cuda::few_rows::Cut;

struct Shape {
  std::vector<std::int64_t> columns;
  std::int64_t inner;
};

std::vector<Shape> shapes() {
  std::vector<Shape> all = {{{11520, 60, 5760}, 3840}, {{3840, 3840, 3840}, 3840}};
  for (const std::int64_t n : {1, 7, 60, 130, 250, 960, 1313, 3840, 11008, 40001, 100352}) {
    for (const std::int64_t k : {8, 64, 200, 1032, 3840, 11008}) all.push_back({{n}, k});
  }
  return all;
}

TEST(FewRowsCut, EveryTileHasItsShareAndTheRingFits) {
  for (const auto& [columns, inner] : shapes()) {
    for (const bool gated : {false, true}) {
      for (const int multiprocessors : {1, 7, 114, 132}) {
        for (const int rows : {16, 32}) {
          const Cut cut = choose_cut(columns, inner, rows, gated, multiprocessors);
          const auto name = ::testing::Message() << columns[0] << " columns, inner " << inner << ", " << rows
                                                 << " rows, " << multiprocessors << " multiprocessors";
          std::int64_t tiles = 0;
          ASSERT_GT(cut.width, 0) << name;
          for (const auto n : columns) tiles += (n * (gated ? 2 : 1) + cut.width - 1) / cut.width;
          EXPECT_EQ(cut.tiles, tiles) << name;
          EXPECT_LE(cut.width, cuda::few_rows::kMostWidth) << name;
          EXPECT_EQ(cut.width % (gated ? 16 : 8), 0) << name;
          EXPECT_LE(cut.clusters * cut.split, multiprocessors) << name;
          EXPECT_GE(cut.chunks, cut.split) << name;
          EXPECT_GE(cut.stages, 2) << name;
          EXPECT_LE(cut.shared_bytes(rows), cuda::few_rows::kMostSharedBytes) << name;
          EXPECT_EQ(cut.units * 8 * (gated ? 2 : 1), cut.width) << name;
          if (cut.split > 1) {  // a cluster has one tile
            EXPECT_EQ(cut.tiles, cut.clusters) << name;
          }
        }
      }
    }
  }
}

// Where K is cut decides the bits of a sum.
TEST(FewRowsCut, DoesNotDependOnTheNumberOfRows) {
  for (const auto& [columns, inner] : shapes()) {
    for (const bool gated : {false, true}) {
      const Cut few = choose_cut(columns, inner, 16, gated, 132),
                more = choose_cut(columns, inner, 32, gated, 132);
      EXPECT_EQ(few.split, more.split) << columns[0] << " columns, inner " << inner;
      EXPECT_EQ(few.width, more.width) << columns[0] << " columns, inner " << inner;
    }
  }
}

// The sizes of matmul_test's and swiglu_test's long rings on an H200: one, two, four blocks to a tile, and
// every place of the ring filled more than once.
TEST(FewRowsCut, TheLongRingsOfOtherTestsAreLong) {
  const auto expect_long = [](std::int64_t n, std::int64_t k, bool gated, int split) {
    for (const int rows : {16, 32}) {
      const std::int64_t columns[] = {n};
      const Cut cut = choose_cut(columns, k, rows, gated, 132);
      EXPECT_EQ(cut.split, split) << n << " columns, inner " << k;
      EXPECT_GT(cut.tiles / cut.clusters * (cut.chunks / cut.split), cut.stages)
          << n << " columns, inner " << k << ", " << rows << " rows";
    }
  };
  expect_long(2105, 3496, false, 1);
  expect_long(1037, 6968, false, 2);
  expect_long(1313, 6968, false, 4);
  expect_long(59108, 232, false, 1);
  expect_long(1037, 3496, true, 1);
  expect_long(510, 6968, true, 2);
  expect_long(574, 6968, true, 4);
}

// The sizes of the same tests that give a warp, or a block that finishes for its cluster, more than one group
// of eight columns each; and those of the 7B, which do too.
TEST(FewRowsCut, OtherTestsTakeSeveralGroupsOfColumns) {
  const auto expect_cut = [](std::vector<std::int64_t> columns, std::int64_t k, bool gated, int split,
                             int units) {
    const Cut cut = choose_cut(columns, k, 16, gated, 132);
    EXPECT_EQ(cut.split, split) << columns[0] << " columns, inner " << k;
    EXPECT_EQ(cut.units, units) << columns[0] << " columns, inner " << k;
  };
  expect_cut({2113}, 2056, false, 4, 9);
  expect_cut({4321}, 2760, false, 2, 9);
  expect_cut({8449}, 2760, false, 2, 17);
  expect_cut({8449}, 520, false, 1, 9);
  expect_cut({2113}, 1544, true, 4, 9);
  expect_cut({4225}, 2056, true, 2, 9);
  expect_cut({3840}, 3840, false, 4, 16);
  expect_cut({3840}, 11008, false, 4, 16);
  const Cut group = choose_cut(std::vector<std::int64_t>{70, 3, 129}, 2056, 16, false, 132);
  EXPECT_GT(group.split, 1) << "the parts of a group in clusters";
}

}  // namespace
}  // namespace braid
