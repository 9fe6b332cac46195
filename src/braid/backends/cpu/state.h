// The CPU backend's state, and the checks every op of it starts with.
#pragma once
#include <initializer_list>
#include <string_view>

#include "braid/core/context.h"

namespace braid::cpu {

struct State : BackendState {
  int threads = 1;
  bool amx = false;  // large f32 products on bf16 tiles (matmul_amx.h)
};

inline const State& state_of(const Context& ctx) {
  const auto* state = dynamic_cast<const State*>(ctx.state);
  require(state != nullptr, "the context has no cpu state: set Context::state from cpu::make_state");
  return *state;
}

// Activations and parameters must be f32 here.
inline void require_f32(std::string_view op, std::initializer_list<ConstTensor> tensors) {
  for (const auto& t : tensors) {
    require(t.dtype == DType::f32,
            "{}: got {}, but the cpu backend computes in f32; use the reference backend", op, describe(t));
  }
}

}  // namespace braid::cpu
