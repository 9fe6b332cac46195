// The two scalars per token and head that steer the delta rule (paper section 2; Yang et al. 2024, Gated
// DeltaNet).
#pragma once
#include "braid/core/context.h"

namespace braid::ops {

// All of the accumulator dtype: a rounded logit would move every later decay.
struct DeltaGateInputs {
  ConstTensor ab;       // (N, 2H): decay logits a, then write logits b
  ConstTensor a_log;    // (H)
  ConstTensor dt_bias;  // (H)
};
struct DeltaGateGradients {
  Tensor ab;              // overwritten; also bf16 where activations are
  Tensor a_log, dt_bias;  // added to
};
struct DeltaGateOptions {
  double beta_scale = 2;  // 2 allows negative eigenvalues, 1 does not
};

// log_decay (N, H) = −exp(a_log) · softplus(a + dt_bias) ≤ 0; beta (N, H) = beta_scale · sigmoid(b).
void delta_gates_forward(Context&, Tensor log_decay, Tensor beta, DeltaGateInputs, DeltaGateOptions);
void delta_gates_backward(Context&, DeltaGateGradients, ConstTensor dlog_decay, ConstTensor dbeta,
                          DeltaGateInputs, DeltaGateOptions);

}  // namespace braid::ops
