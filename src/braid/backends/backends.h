// Composition root: only apps, tests and benches include this.
#pragma once
#include <memory>
#include <string>

#include "braid/core/context.h"
#include "braid/ops/backend.h"

namespace braid {

namespace reference {
const OpTable* op_table();
}

namespace cpu {
const OpTable* op_table();
// The same signatures; each entry only makes the scratch tensors that its op would make. Missing entries make
// none.
const OpTable* scratch_table();
struct Options {
  int threads = 0;  // 0: all that the process may use
  std::string
      target{};  // SIMD target to force ("AVX3", "AVX2", "SCALAR"…), empty: the best that this CPU has
};
std::unique_ptr<BackendState> make_state(const Options& options);
}  // namespace cpu

namespace cuda {
// One NVIDIA GPU of the Hopper generation. Throws when braid was built without CUDA or no such device is
// there.
Backend make_backend();
// Whether make_backend() would succeed.
bool available();
}  // namespace cuda

namespace dry {
// Every op does nothing but make the scratch tensors that `scratch` (a backend's scratch table, or null)
// makes: a step on measuring arenas checks shapes and finds the exact memory.
OpTable op_table(const OpTable* scratch);
}  // namespace dry

// "cpu", "cuda" or "reference"; an unknown name is an error.
Backend make_backend(std::string_view name, const cpu::Options& options = {},
                     Arithmetic arithmetic = Arithmetic::fast);

}  // namespace braid
