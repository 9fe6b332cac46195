// One function per subcommand of `braid lab`, each in its own file.
#pragma once
#include "command.h"

namespace braid::app {

std::string construction_list();  // "swaps, …", for help

void add_lab_build(CLI::App& lab);
void add_lab_inspect(CLI::App& lab);
void add_lab_report(CLI::App& lab);
void add_lab_run(CLI::App& lab);
void add_lab_show(CLI::App& lab);
void add_lab_verify(CLI::App& lab);

}  // namespace braid::app
