#include "braid/lab/experiment/training_run.h"
#include "lab.h"

namespace braid::app {
namespace {

struct Options {
  std::vector<std::string> folders;
  BackendOptions backend;
};

// What can be said of one run; where it cannot be evaluated, why, and false.
bool evaluate(const Backend& backend, const lab::StoredExperiment& store, const lab::StoredRun& run) {
  if (run.result) {
    fmt::print("{}\n", result_line(*run.result));
    return true;
  }
  const auto path = store.folder / "runs" / run.spec.name();
  const auto notice = [](const std::string& line) { fmt::print(stderr, "{}\n", line); };
  try {
    const auto result = lab::evaluate_checkpoint(backend, store.experiment, run.spec, path, notice);
    fmt::print("not finished: {}\n", result_line(result));
    return true;
  } catch (const Error& error) {
    fmt::print("not finished: {}: {}\n", run.spec.name(), error.what());
    return false;
  }
}

void run(const Options& o) {
  const auto backend = o.backend.make();
  fmt::print("on {}\n", backend.description);
  bool all = true;
  for (const auto& folder : o.folders) {
    const auto store = lab::read_store(folder);
    if (store.runs.empty()) fmt::print("{}: no run of its grid was begun\n", folder);
    for (const auto& run : store.runs) all = evaluate(backend, store, run) && all;
  }
  if (!all) throw Exit{1};
}

}  // namespace

void add_lab_evaluate(CLI::App& lab) {
  auto* command = lab.add_subcommand("evaluate",
                                     "accuracy at the experiment's lengths: of finished runs their result, "
                                     "of others what their newest checkpoint answers");
  auto o = std::make_shared<Options>();
  command->add_option("folders", o->folders, "folders of experiments, which stay as they are")
      ->required()
      ->check(CLI::ExistingDirectory);
  o->backend.add_to(*command);
  command->callback([o] { run(*o); });
}

}  // namespace braid::app
