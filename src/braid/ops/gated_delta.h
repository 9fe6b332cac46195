// The gated delta rule (paper section 2, Definition 1 as run). Per value head, with state S (Dk, Dv):
//   k̂ = k / sqrt(|k|² + 1e-6), q̂ likewise, α = exp(log_decay)
//   p = α Sᵀ k̂,  δ = β (v − p),  S ← α S + k̂ δᵀ,  y = scale · Sᵀ q̂
#pragma once
#include "braid/core/context.h"
#include "braid/ops/segments.h"

namespace braid::ops {

struct GatedDeltaInputs {
  ConstTensor q, k;             // (N, Hk, Dk), not normalised
  ConstTensor v;                // (N, Hv, Dv); value head h reads key head h / (Hv / Hk)
  ConstTensor log_decay, beta;  // (N, Hv), accumulator dtype; log_decay ≤ 0
};
struct GatedDeltaGradients {
  Tensor q, k, v, log_decay, beta;  // overwritten
};
// States of the segments, (S, Hv, Dk, Dv), accumulator dtype. Undefined: zero / not wanted. `final` may be
// the memory of `initial`.
struct GatedDeltaStates {
  ConstTensor initial;
  Tensor final;
};
enum class DeltaMethod : std::uint8_t { automatic, chunked, recurrent };
struct GatedDeltaOptions {
  double scale = 0;  // 0: 1 / sqrt(Dk)
  DeltaMethod method = DeltaMethod::automatic;
};

// Tokens per chunk of the chunked form and per saved state.
inline constexpr std::int64_t kDeltaChunk = 64;
inline constexpr double kDeltaNormEpsilon = 1e-6;

// Slot of the first chunk of a segment that begins at token `offset`; its chunks take successive slots.
constexpr std::int64_t delta_chunk_slot(std::int64_t segment, std::int64_t offset) {
  return offset / kDeltaChunk + segment;
}
// (slots, Hv, Dk, Dv): the state before each chunk, in the dtype of v, kept for backward.
Shape gated_delta_checkpoint_shape(const GatedDeltaInputs&, const Segments&);

// y (N, Hv, Dv). `checkpoints` undefined: backward will not follow.
void gated_delta_forward(Context&, Tensor y, Tensor checkpoints, GatedDeltaStates, GatedDeltaInputs, Segments,
                         GatedDeltaOptions);

struct GatedDeltaStateGradients {
  Tensor initial;     // overwritten; undefined: not wanted
  ConstTensor final;  // undefined: zero
};
// `initial` and `checkpoints` are those of the forward call.
struct GatedDeltaSaved {
  ConstTensor checkpoints, initial;
};
void gated_delta_backward(Context&, GatedDeltaGradients, GatedDeltaStateGradients, ConstTensor dy,
                          GatedDeltaInputs, GatedDeltaSaved, Segments, GatedDeltaOptions);

}  // namespace braid::ops
