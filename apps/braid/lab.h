// One function per subcommand of `braid lab`, each in its own file.
#pragma once
#include "braid/lab/experiment/store.h"
#include "command.h"

namespace braid::app {

std::string construction_list();  // "swaps, …", for help

std::string result_line(const lab::RunResult& result);

void add_lab_build(CLI::App& lab);
void add_lab_evaluate(CLI::App& lab);
void add_lab_inspect(CLI::App& lab);
void add_lab_report(CLI::App& lab);
void add_lab_run(CLI::App& lab);
void add_lab_show(CLI::App& lab);
void add_lab_verify(CLI::App& lab);

}  // namespace braid::app
