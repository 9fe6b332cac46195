// The gated delta rule in chunks of 64 tokens on the tensor cores, for bf16 activations. Per chunk, with raw
// rows Q, K, V, the state S before it, and g summed inside the chunk to G: γ_i = e^G_i, ρ_i = e^(G_last −
// G_i), Γ_ij = e^(G_i − G_j), all exponents ≤ 0, k̂ and q̂ normalised:
//   A = stril(K̂ K̂ᵀ ∘ Γ), T = (1 + diag(β) A)⁻¹, P = tril(Q̂ K̂ᵀ ∘ Γ)
//   response R = P T, written X = Tᵀ diag(ρ) K̂, predicted M = A T
//   Y = diag(β) (V − diag(γ) K̂ S),  O = scale (diag(γ) Q̂ S + R Y),  S ← γ_last S + Xᵀ Y
#pragma once
#include "braid/ops/gated_delta.h"

namespace braid::cuda::chunked {

// bf16, both widths multiples of 16 up to 256.
bool supports(const ops::GatedDeltaInputs&);

void forward(Context&, Tensor y, Tensor checkpoints, ops::GatedDeltaStates, ops::GatedDeltaInputs,
             ops::Segments, double scale);
void backward(Context&, ops::GatedDeltaGradients, ops::GatedDeltaStateGradients, ConstTensor dy,
              ops::GatedDeltaInputs, ops::GatedDeltaSaved, ops::Segments, double scale);

// The scratch tensors of the above, and nothing else.
void forward_scratch(Context&, Tensor y, Tensor checkpoints, ops::GatedDeltaStates, ops::GatedDeltaInputs,
                     ops::Segments, double scale);
void backward_scratch(Context&, ops::GatedDeltaGradients, ops::GatedDeltaStateGradients, ConstTensor dy,
                      ops::GatedDeltaInputs, ops::GatedDeltaSaved, ops::Segments, double scale);

}  // namespace braid::cuda::chunked
