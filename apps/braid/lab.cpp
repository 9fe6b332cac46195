// braid lab: the paper's formal problems, constructions that solve them, experiments that learn them.
#include "lab.h"

namespace braid::app {

void add_lab(CLI::App& app) {
  auto* lab =
      app.add_subcommand("lab", "formal problems: show, solve by hand-set weights, learn, look inside");
  lab->require_subcommand(1);
  add_lab_run(*lab);
  add_lab_evaluate(*lab);
  add_lab_report(*lab);
  add_lab_inspect(*lab);
  add_lab_show(*lab);
  add_lab_build(*lab);
  add_lab_verify(*lab);
}

}  // namespace braid::app
