// Which kernels a gated delta call runs on. A pure function of what the host knows.
#pragma once
#include "braid/core/context.h"
#include "braid/ops/gated_delta.h"

namespace braid::cuda {

enum class DeltaPath : std::uint8_t { step, chunked, recurrent };
enum class DeltaPass : std::uint8_t { forward, training_forward, backward };

struct DeltaProblem {
  std::int64_t tokens = 0, segments = 0;
  bool chunked_supported = false;
  DeltaPass pass = DeltaPass::forward;
  ops::DeltaMethod method = ops::DeltaMethod::automatic;
  Arithmetic arithmetic = Arithmetic::fast;
};

// Strict arithmetic never chooses between the chunk form and the recurrence by what else is in the call.
constexpr DeltaPath choose_config(const DeltaProblem& p) {
  if (p.method == ops::DeltaMethod::recurrent) return DeltaPath::recurrent;
  const bool chunked_only = p.method == ops::DeltaMethod::chunked || p.arithmetic == Arithmetic::strict;
  if (p.chunked_supported && chunked_only) return DeltaPath::chunked;
  const bool step =
      p.method == ops::DeltaMethod::automatic && p.pass == DeltaPass::forward && p.tokens == p.segments;
  if (step) return DeltaPath::step;
  return p.chunked_supported ? DeltaPath::chunked : DeltaPath::recurrent;
}

}  // namespace braid::cuda
