#include "braid/lab/report/lab_page.h"
#include "lab.h"

namespace braid::app {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::vector<std::string> folders;
  std::string output;
};

void run(const Options& o) {
  std::vector<lab::StoredExperiment> experiments;
  for (std::size_t i = 0; i < o.folders.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      require(!fs::equivalent(o.folders[i], o.folders[j]), "{}: given twice: name each experiment once",
              o.folders[i]);
    }
    experiments.push_back(lab::read_store(o.folders[i]));
    const auto& e = experiments.back();
    fmt::print(
        "{} ({}): accuracy of the final answer on {} samples; the paper's in brackets, * differs by more "
        "than "
        "sampling\n{}\n",
        e.experiment.name, e.experiment.problem->name(), e.experiment.samples, lab::text_table(e));
  }
  if (o.output.empty()) return;
  const auto page = lab::render_lab_page(experiments);
  io::write_file(o.output, page);
  fmt::print("{}: {} experiment{}, {:.0f} kB\n", o.output, experiments.size(),
             experiments.size() == 1 ? "" : "s", static_cast<double>(page.size()) / 1e3);
}

}  // namespace

void add_lab_report(CLI::App& lab) {
  auto* command =
      lab.add_subcommand("report", "tables of experiments, and one HTML page that needs no network");
  auto o = std::make_shared<Options>();
  command->add_option("folders", o->folders, "folders of experiments, finished or not")
      ->required()
      ->check(CLI::ExistingDirectory);
  command->add_option("--output", o->output, "the page to write; none without it");
  command->callback([o] { run(*o); });
}

}  // namespace braid::app
