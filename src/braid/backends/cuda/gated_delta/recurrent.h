// The delta rule token by token: exact in f32, any widths up to kMaxKeyWidth keys. Slow where the chunk form
// runs.
#pragma once
#include "braid/ops/gated_delta.h"

namespace braid::cuda::delta {

inline constexpr int kMaxKeyWidth = 256;

}  // namespace braid::cuda::delta

namespace braid::cuda::step {

// No checkpoints; best with one token a segment.
void forward(Context&, Tensor y, ops::GatedDeltaStates, ops::GatedDeltaInputs, ops::Segments, double scale);

}  // namespace braid::cuda::step

namespace braid::cuda::recurrent {

void forward(Context&, Tensor y, Tensor checkpoints, ops::GatedDeltaStates, ops::GatedDeltaInputs,
             ops::Segments, double scale);
void backward(Context&, ops::GatedDeltaGradients, ops::GatedDeltaStateGradients, ConstTensor dy,
              ops::GatedDeltaInputs, ops::GatedDeltaSaved, ops::Segments, double scale);
void backward_scratch(Context&, ops::GatedDeltaInputs, ops::Segments);

}  // namespace braid::cuda::recurrent
