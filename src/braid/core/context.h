// Everything an op needs besides its tensors. Passed explicitly and first; there are no globals.
#pragma once
#include "braid/core/memory.h"

namespace braid {

struct OpTable;  // ops/op_table.h

// Backend-private state (threads, streams, library handles). Only its own backend looks inside.
struct BackendState {
  virtual ~BackendState() = default;
};

// fast: whatever is quickest and reproducible for the same call.
// strict: each row's bits also do not depend on which other rows are in the call.
enum class Arithmetic : std::uint8_t { fast, strict };

// ahead: kernels may fetch weights, segment offsets, positions and what sequences left (caches, lengths,
// recurrent states) before their turn: apart from the one op that advances each state, nothing given to the
// device since the host last wrote or read its memory writes these.
enum class Fetch : std::uint8_t { in_turn, ahead };

struct Context {
  Device device = Device::cpu;
  const OpTable* ops = nullptr;
  Arena* scratch = nullptr;
  BackendState* state = nullptr;
  Arithmetic arithmetic = Arithmetic::fast;
  Memory* memory = nullptr;  // what the tensors lie in; null on dry runs
  Fetch fetch = Fetch::in_turn;
};

}  // namespace braid
