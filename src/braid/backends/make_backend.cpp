#include <algorithm>

#include "braid/backends/backends.h"
#include "braid/backends/cpu/state.h"
#include "braid/backends/cpu/targets.h"
#include "braid/ops/backend.h"

namespace braid {

Backend make_backend(std::string_view name, const cpu::Options& options, Arithmetic arithmetic) {
  if (name == "cuda") {
    require(arithmetic == Arithmetic::fast,
            "backend 'cuda' has no strict arithmetic yet: leave --strict out, or use --backend cpu");
    return cuda::make_backend();
  }
  Backend b{
      .name = std::string(name), .description = std::string(name), .ops = {}, .dry = {}, .state = nullptr};
  b.arithmetic = arithmetic;
  if (name == "reference") {
    b.ops = *reference::op_table();
    b.dry = dry::op_table(nullptr);
  } else if (name == "cpu") {
    b.ops = *cpu::op_table();
    b.dry = dry::op_table(cpu::scratch_table());
    b.state = cpu::make_state(options);
    // The best target has the lowest bit.
    const auto best = std::ranges::min(hwy::SupportedAndGeneratedTargets());
    const auto& state = static_cast<const cpu::State&>(*b.state);
    b.description =
        fmt::format("cpu, {} threads, {}{}, {}", state.threads, hwy::TargetName(best),
                    state.amx ? " and AMX" : "", arithmetic == Arithmetic::strict ? "strict" : "fast");
  } else {
    fail("backend '{}' is not known: expected cpu, cuda or reference", name);
  }
  return b;
}

}  // namespace braid
