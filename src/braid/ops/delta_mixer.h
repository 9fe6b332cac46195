// Decoding through the core of a Gated DeltaNet layer, between its projections: short convolution, gates,
// delta rule, gated norm.
#pragma once
#include "braid/ops/gated_delta.h"

namespace braid::ops {

struct DeltaMixerInputs {
  ConstTensor projected;    // (S, C), C = 2 · Hk · Dk + Hv · Dv: q, k and v before the convolution
  ConstTensor ab, gate;     // (S, 2Hv), accumulator dtype; (S, Hv · Dv)
  ConstTensor convolution;  // (C, W)
  ConstTensor a_log, dt_bias, norm;  // (Hv) twice, (Dv); like the convolution of the accumulator dtype
};
// Both are replaced.
struct DeltaMixerStates {
  Tensor convolution;  // (S, W - 1, C)
  Tensor delta;        // (S, Hv, Dk, Dv), accumulator dtype
};
struct DeltaMixerOptions {
  double beta_scale = 2;
  double epsilon = 1e-6;  // of the norm
};

// y (S, Hv · Dv), for segments of one token each: short_convolution_forward, delta_gates_forward,
// gated_delta_forward and gated_rms_norm_forward, one after the other.
void delta_mixer_step(Context&, Tensor y, DeltaMixerStates, DeltaMixerInputs, Segments, DeltaMixerOptions);

// Does it by calling those ops: its definition, and what a backend without a faster way enters in its tables.
void delta_mixer_step_in_parts(Context&, Tensor y, DeltaMixerStates, DeltaMixerInputs, Segments,
                               DeltaMixerOptions);

}  // namespace braid::ops
