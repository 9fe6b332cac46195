// How products of a few rows are shared out among multiprocessors: a pure function of shapes.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>

namespace braid::cuda::few_rows {

inline constexpr int kDepth = 64;       // of a chunk along K: one row of the copy engine's swizzle
inline constexpr int kMostWidth = 256;  // rows of one box
// Of the ring and of what a cluster's blocks send each other. The longer the ring, the more of it fills while
// the kernels ahead of this one end.
inline constexpr int kRingBytes = 216 * 1024, kMostSharedBytes = kRingBytes + 1024;

struct Cut {
  std::int32_t width;  // rows of the weights that a tile has: its columns, twice as many where gated
  std::int32_t units;  // of a tile: 8 of its columns each
  std::int32_t split;  // blocks of a cluster, which share a tile's K; above 1 each has one tile
  std::int32_t tiles, clusters;
  std::int32_t chunks;  // of a tile along K
  std::int32_t stages;  // of the ring

  constexpr std::int32_t stage_bytes(int rows) const { return (width + rows) * kDepth * 2; }
  // Units of its tile that one block of a cluster finishes, at most, and the memory for their sums by all.
  constexpr std::int32_t finished() const { return (units + split - 1) / split; }
  constexpr std::int32_t meeting_bytes(int rows) const {
    return split == 1 ? 0 : split * finished() * (width / units) * rows * 4;
  }
  // Boxes must lie on boundaries of 1024 bytes, which dynamic shared memory need not.
  constexpr std::int32_t shared_bytes(int rows) const {
    return stages * (stage_bytes(rows) + 16) + meeting_bytes(rows) + 1024;
  }
};

// columns: of each product; rows: 16 or 32, which decide the ring alone, since the cut decides a row's bits.
// The cut with the shortest longest share, in units of one column's chunk (128 bytes). 16 rows of a count
// half as much, since they come from the second-level cache.
constexpr Cut choose_cut(std::span<const std::int64_t> columns, std::int64_t inner, int rows, bool gated,
                         int multiprocessors) {
  constexpr double kMeeting = 256;  // what the meeting of a cluster costs: about a microsecond
  constexpr double kRowsCost = 8;
  const std::int64_t parts = gated ? 2 : 1, chunks = (inner + kDepth - 1) / kDepth;
  Cut best{};
  double least = 0;
  for (int split = 1; split <= 4; split *= 2) {
    if (chunks < split) break;
    // Not every group of multiprocessors has room for whole clusters.
    const int usable = split == 4 ? multiprocessors * 15 / 16 : multiprocessors;
    for (std::int64_t width = 8 * parts; width <= kMostWidth; width += 8 * parts) {
      std::int64_t tiles = 0;
      for (const std::int64_t n : columns) tiles += (n * parts + width - 1) / width;
      if (split > 1 && tiles * split > usable) continue;
      const std::int64_t clusters = std::min<std::int64_t>(tiles, multiprocessors / split),
                         waves = (tiles + clusters - 1) / clusters, share = (chunks + split - 1) / split;
      const double cost = static_cast<double>(waves * share) * (static_cast<double>(width) + kRowsCost) +
                          (split > 1 ? kMeeting : 0);
      if (best.width != 0 && cost >= least) continue;
      least = cost;
      best = {.width = static_cast<std::int32_t>(width),
              .units = static_cast<std::int32_t>(width / (8 * parts)),
              .split = split,
              .tiles = static_cast<std::int32_t>(tiles),
              .clusters = static_cast<std::int32_t>(clusters),
              .chunks = static_cast<std::int32_t>(chunks),
              .stages = 0};
      best.stages = (kRingBytes - best.meeting_bytes(rows)) / (best.stage_bytes(rows) + 16);
    }
  }
  return best;
}

}  // namespace braid::cuda::few_rows
