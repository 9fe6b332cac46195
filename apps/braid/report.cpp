#include "braid/report/page.h"
#include "command.h"

namespace braid::app {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::vector<std::string> runs;
  std::string output = "report.html";
  bool stages = false;
};

void run(const Options& o) {
  std::vector<report::RunLog> runs;
  for (std::size_t i = 0; i < o.runs.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      require(!fs::equivalent(o.runs[i], o.runs[j]), "{}: given twice: name each run once", o.runs[i]);
    }
    runs.push_back(report::read_run(o.runs[i]));
    for (const auto& notice : runs.back().notices) fmt::print(stderr, "braid: {}/{}\n", o.runs[i], notice);
  }
  const auto page =
      report::render_page(runs, {.layout = o.stages ? report::Layout::stages : report::Layout::comparison});
  io::write_file(o.output, page);
  fmt::print("{}: {} run{}, {:.0f} kB\n", o.output, runs.size(), runs.size() == 1 ? "" : "s",
             static_cast<double>(page.size()) / 1e3);
}

}  // namespace

void add_report(CLI::App& app) {
  auto* command = app.add_subcommand("report", "draw runs into one HTML page that needs no network");
  auto o = std::make_shared<Options>();
  command->add_option("runs", o->runs, "folders of runs, in the order to show")
      ->required()
      ->check(CLI::ExistingDirectory);
  command->add_option("--output", o->output, "the page to write (report.html)");
  command->add_flag("--stages", o->stages,
                    "the runs are stages of one chain: each goes on from the one before");
  command->callback([o] { run(*o); });
}

}  // namespace braid::app
