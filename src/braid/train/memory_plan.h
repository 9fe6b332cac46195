// What a training step needs, known before the first one, and what its blocks keep so that it fits.
#pragma once
#include <array>
#include <functional>

#include "braid/train/config.h"

namespace braid::train {

// Bytes, exactly.
struct MemoryPlan {
  std::size_t parameters = 0, gradients = 0, moments = 0;
  std::size_t copies = 0;       // of matrices and embedding in bf16
  std::size_t tables = 0;       // rotary tables, losses
  std::size_t activations = 0;  // what blocks keep for their backward
  std::size_t scratch = 0;
  std::size_t free = SIZE_MAX;           // before any of it was allocated; SIZE_MAX: the host's, not counted
  std::array<std::int64_t, 4> blocks{};  // how many keep each nn::Keep

  std::size_t total() const {
    return parameters + gradients + moments + copies + tables + activations + scratch;
  }
};

// A forward and backward of so many sequences.
struct WorkShape {
  std::int64_t micro_batch = 0, length = 0;
};
// Its bytes with this plan, beside the parameters, by running it dry.
using WorkBytes = std::function<std::size_t(const WorkShape&, const model::KeepPlan&)>;

// Plans in the order of growing recomputation, from everything kept (0) to inputs only (3 · blocks): each
// step takes one level from one more block, from the first on, and no block gives up the next level before
// all have given up this one, since each frees less for its time than the one before.
model::KeepPlan keep_plan(std::int64_t step, std::int64_t blocks);

// The first of these plans, among those that train.recompute allows, with which the work fits in `available`.
// Throws where none does, naming what would fit.
model::KeepPlan choose_keep_plan(const RunConfig&, std::size_t available, const WorkBytes&);

// The most sequences of data.sequence_length with which some allowed plan fits, at most `limit`; 0: none.
std::int64_t largest_micro_batch(const RunConfig&, std::size_t available, const WorkBytes&,
                                 std::int64_t limit);

}  // namespace braid::train
