// What training steps came to, kept where it was computed: the host need not wait to know.
#pragma once
#include "braid/core/context.h"

namespace braid::ops {

// Elements of a tally, f64. All zeros: no step yet.
enum TallyElement : std::int64_t {
  kTallyLoss,          // of the last step: mean over the predicted tokens
  kTallyZLoss,         // likewise, of logsumexp²
  kTallyGradientNorm,  // before clipping
  kTallyLossSum,       // of kTallyLoss over the finite steps
  kTallySteps,         // so far, up to the first one that is not finite
  kTallyFailedStep,    // the number of that one, counted from 1; 0: none
  kTallyElements
};

struct StepLosses {
  ConstTensor loss, log_sum_exp;  // (N), of each token
};

// Enters one step into `tally` (kTallyElements) f64. scale (1) f64: what makes means of sums over tokens.
// clip (2): norm_and_scale (2), as gradient_norm() leaves it, of f32 or f64 as the losses. Where the loss or
// the norm is not finite, both elements are NaN; from then on they stay so, and the tally as it is.
void tally_step(Context&, Tensor tally, Tensor clip, StepLosses, ConstTensor norm_and_scale,
                ConstTensor scale);

}  // namespace braid::ops
