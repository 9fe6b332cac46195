// A part of a step's batch that goes through the model at once.
#pragma once
#include "braid/data/batches.h"
#include "braid/model/host_batch.h"

namespace braid::train {

// Views of the batch's host arrays; offsets count from the part's first token.
struct MicroBatch {
  std::span<const std::int32_t> ids, targets, positions;
  std::span<const float> weights;  // empty: all 1
  std::vector<std::int32_t> offsets;

  static MicroBatch of(const data::Batch& b, std::int64_t first_token, std::int64_t tokens) {
    const auto part = [&](const auto& v) {
      return std::span(v).subspan(static_cast<std::size_t>(first_token), static_cast<std::size_t>(tokens));
    };
    MicroBatch m{part(b.ids), part(b.targets), part(b.positions), {}, {}};
    if (!b.weights.empty()) m.weights = part(b.weights);
    for (const auto offset : b.segment_offsets) {
      if (offset >= first_token && offset <= first_token + tokens) {
        m.offsets.push_back(static_cast<std::int32_t>(offset - first_token));
      }
    }
    return m;
  }
  model::HostBatch host() const { return {ids, targets, positions, offsets, weights}; }
};

}  // namespace braid::train
