#include "braid/lab/constructions/directory.h"
#include "lab.h"

namespace braid::app {
namespace {

struct Options {
  std::string construction, output;
  std::int64_t n = 16;
};

void run(const Options& o) {
  const auto& construction = lab::construction_named(o.construction);
  lab::save_construction(o.output, construction, o.n);
  fmt::print("{}: {} for n = {}: {}\n", o.output, construction.name(), o.n, construction.summary());
}

}  // namespace

std::string construction_list() {
  std::string names;
  for (const auto* c : lab::constructions()) names += (names.empty() ? "" : ", ") + std::string(c->name());
  return names;
}

void add_lab_build(CLI::App& lab) {
  auto* command = lab.add_subcommand("build", "write hand-set weights that solve a problem (docs/theory.md)");
  auto o = std::make_shared<Options>();
  command->add_option("construction", o->construction, construction_list())->required();
  command->add_option("--n", o->n, "size of the instances it is for")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  command->add_option("--output", o->output, "model directory to write; must be new or empty")->required();
  command->callback([o] { run(*o); });
}

}  // namespace braid::app
