#include "braid/backends/backends.h"
#include "braid/ops/backend.h"

namespace braid {

Backend make_backend(std::string_view name, const cpu::Options& options) {
  Backend b{.name = std::string(name), .ops = {}, .dry = {}, .state = nullptr};
  if (name == "reference") {
    b.ops = *reference::op_table();
    b.dry = dry::op_table(nullptr);
  } else if (name == "cpu") {
    b.ops = *cpu::op_table();
    b.dry = dry::op_table(cpu::scratch_table());
    b.state = cpu::make_state(options);
  } else {
    fail("backend '{}' is not known: expected cpu or reference", name);
  }
  return b;
}

}  // namespace braid
