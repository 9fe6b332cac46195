// For compilers and processors without AMX.
#include "braid/backends/cpu/matmul_amx.h"

namespace braid::cpu {

bool amx_usable() { return false; }
void matmul_amx(const Context&, const MatmulProblem&, float*, const float*, const float*, const AmxScratch&) {
  fail("matmul: this build has no AMX");
}

}  // namespace braid::cpu
