#include "braid/backends/cpu/state.h"

#include <omp.h>

#include <algorithm>

#include "braid/backends/backends.h"
#include "braid/backends/cpu/matmul_amx.h"
#include "braid/backends/cpu/targets.h"

namespace braid::cpu {
namespace {

std::int64_t target_named(const std::string& name) {
  std::string known;
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (name == hwy::TargetName(target)) return target;
    known += fmt::format(" {}", hwy::TargetName(target));
  }
  fail("cpu target '{}' is not one that this build and CPU have:{}", name, known);
}

}  // namespace

// Highway keeps the choice of SIMD target per process, not per State: the last call decides for all.
std::unique_ptr<BackendState> make_state(const Options& options) {
  require(options.threads >= 0, "cpu threads {} is negative: give a count, or 0 for all", options.threads);
  hwy::SetSupportedTargetsForTest(0);
  if (!options.target.empty()) hwy::SetSupportedTargetsForTest(target_named(options.target));
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  auto state = std::make_unique<State>();
  state->threads = options.threads > 0 ? options.threads : std::max(1, omp_get_max_threads());
  state->amx = options.target.empty() && amx_usable();  // a forced target means its vectors and nothing else
  return state;
}

}  // namespace braid::cpu
