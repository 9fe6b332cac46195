// Memory for a repeated piece of work, sized exactly by running it dry first.
#pragma once
#include <algorithm>

#include "braid/ops/backend.h"

namespace braid::model {

// `work(Context&, Arena& step)` is whatever will run in this memory, with its largest shapes.
class WorkMemory {
 public:
  WorkMemory() = default;
  template <class Work>
  WorkMemory(const Backend& backend, Work&& work) {
    Arena step = Arena::measuring(), scratch = Arena::measuring();
    Context ctx = backend.measuring_context(scratch);
    work(ctx, step);
    step_ = Buffer(step.peak(), backend.memory);
    scratch_ = Buffer(scratch.peak(), backend.memory);
  }
  // Plans again where `work` needs more than was planned. True: the memory lies elsewhere now.
  template <class Work>
  bool grow(const Backend& backend, Work&& work) {
    Arena step = Arena::measuring(), scratch = Arena::measuring();
    Context ctx = backend.measuring_context(scratch);
    work(ctx, step);
    const bool more_step = step.peak() > step_.bytes(), more_scratch = scratch.peak() > scratch_.bytes();
    if (more_step) step_ = {}, step_ = Buffer(step.peak(), backend.memory);
    if (more_scratch) scratch_ = {}, scratch_ = Buffer(scratch.peak(), backend.memory);
    return more_step || more_scratch;
  }
  // Runs `work` in the planned memory. Peaks over all runs are kept for comparison with the plan.
  template <class Work>
  void run(const Backend& backend, Work&& work) {
    Arena step(step_), scratch(scratch_);
    Context ctx = backend.context(scratch);
    work(ctx, step);
    step_peak_ = std::max(step_peak_, step.peak());
    scratch_peak_ = std::max(scratch_peak_, scratch.peak());
  }
  std::size_t step_bytes() const { return step_.bytes(); }
  std::size_t scratch_bytes() const { return scratch_.bytes(); }
  std::size_t step_peak() const { return step_peak_; }
  std::size_t scratch_peak() const { return scratch_peak_; }

 private:
  Buffer step_, scratch_;
  std::size_t step_peak_ = 0, scratch_peak_ = 0;
};

// Plans the memory of `work`, runs it once, and frees the memory.
template <class Work>
void run_once(const Backend& backend, Work&& work) {
  WorkMemory memory(backend, work);
  memory.run(backend, work);
}

}  // namespace braid::model
