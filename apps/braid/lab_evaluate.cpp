#include "braid/lab/experiment/training_run.h"
#include "lab.h"

namespace braid::app {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::vector<std::string> folders;
  BackendOptions backend;
};

bool has_checkpoint(const fs::path& run) {
  return fs::is_directory(run / "checkpoints") && !fs::is_empty(run / "checkpoints");
}

void run(const Options& o) {
  const auto backend = o.backend.make();
  for (const auto& folder : o.folders) {
    const auto store = lab::read_store(folder);
    if (store.runs.empty()) fmt::print("{}: no run was begun\n", folder);
    for (const auto& run : store.runs) {
      const auto path = store.folder / "runs" / run.spec.name();
      if (run.result) {
        fmt::print("{}\n", result_line(*run.result));
      } else if (!has_checkpoint(path)) {
        fmt::print("{}: not finished, and has no checkpoint\n", run.spec.name());
      } else {
        fmt::print("not finished: {}\n",
                   result_line(lab::evaluate_checkpoint(backend, store.experiment, run.spec, path)));
      }
    }
  }
}

}  // namespace

void add_lab_evaluate(CLI::App& lab) {
  auto* command = lab.add_subcommand(
      "evaluate",
      "accuracy at the experiment's lengths of runs that are not finished, by their newest checkpoint");
  auto o = std::make_shared<Options>();
  command->add_option("folders", o->folders, "folders of experiments, which stay as they are")
      ->required()
      ->check(CLI::ExistingDirectory);
  o->backend.add_to(*command);
  command->callback([o] { run(*o); });
}

}  // namespace braid::app
