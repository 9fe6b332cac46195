// A backend as the layers above see it: its ops, the do-nothing twin that measures, and its private state.
#pragma once
#include <memory>
#include <string>

#include "braid/ops/op_table.h"

namespace braid {

struct Backend {
  std::string name;
  std::string description;  // what the bits of a result may depend on: "cpu, 2 threads, AVX3, fast"
  Device device = Device::cpu;
  OpTable ops;
  OpTable dry;  // makes the scratch that `ops` would make, and nothing else
  std::shared_ptr<BackendState> state;
  Arithmetic arithmetic = Arithmetic::fast;

  Context context(Arena& scratch) const { return {device, &ops, &scratch, state.get(), arithmetic}; }
  Context measuring_context(Arena& scratch) const {
    return {Device::dry, &dry, &scratch, state.get(), arithmetic};
  }
};

// Bytes of scratch that fn(Context&) needs on this backend, found by running it dry.
template <class Fn>
std::size_t measure_scratch(const Backend& backend, Fn&& fn) {
  Arena scratch = Arena::measuring();
  Context ctx = backend.measuring_context(scratch);
  fn(ctx);
  return scratch.peak();
}

}  // namespace braid
