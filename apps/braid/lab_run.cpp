#include <algorithm>
#include <csignal>
#include <thread>

#include "braid/lab/experiment/experiment_run.h"
#include "braid/lab/report/summary.h"
#include "lab.h"
#include "status_line.h"
#include "stop_signals.h"

namespace braid::app {
namespace {

struct Options {
  std::string experiment;
  std::vector<std::string> overrides;
  int jobs = 0;
  BackendOptions backend;
};

constexpr int kMostJobs = 256, kGpuJobs = 8;

// Lines, and one below them that follows the grid: rewritten in place on a terminal, else twice a minute.
class Progress {
 public:
  void grid(const lab::GridProgress& p) {
    if (!status_.due()) return;
    auto text = fmt::format("{}/{} runs", p.finished, p.runs);
    if (p.failed > 0) text += fmt::format(", {} failed", p.failed);
    if (p.seconds_left > 0) {
      text += fmt::format("  {:.0f} steps/s  left at most {}", p.steps_per_second, duration(p.seconds_left));
    }
    for (const auto& run : p.running) {
      if (run.progress.steps == 0) continue;
      const auto& c = run.progress.check;
      text += fmt::format("  | {} {}/{} n {} acc {:.3f}", run.name, c.step, run.progress.steps, c.n,
                          static_cast<double>(c.correct) / static_cast<double>(c.samples));
    }
    constexpr std::size_t kWidth = 200;
    status_.show(status_.terminal() ? text.substr(0, kWidth) : text);
  }
  void line(const std::string& text) {
    status_.erase();
    status_.line(text);
  }

 private:
  StatusLine status_{{.terminal = std::chrono::milliseconds(500), .elsewhere = std::chrono::seconds(30)}};
};

// One backend for each job; on the cpu they share its threads.
std::vector<Backend> make_backends(const Options& o) {
  const bool gpu = o.backend.name == "cuda";
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int threads = o.backend.threads > 0 ? o.backend.threads : cores;
  const int jobs = o.jobs > 0 ? o.jobs : gpu ? kGpuJobs : threads;
  auto one = o.backend;
  if (!gpu) one.threads = std::max(1, threads / jobs);
  std::vector<Backend> backends;
  for (int i = 0; i < jobs; ++i) backends.push_back(one.make());
  return backends;
}

void run(const Options& o) {
  const StopSignals signals;
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is then an error like a full disk
  const auto experiment = lab::read_experiment(o.experiment, o.overrides);
  const auto backends = make_backends(o);
  Progress progress;
  progress.line(fmt::format("{}: {} runs of '{}' ({} form), {} at a time on {}", experiment.name,
                            experiment.runs().size(), experiment.problem->name(),
                            experiment.form == lab::Form::code ? "code" : "token", backends.size(),
                            backends.front().description));
  const lab::GridObserver observer{
      .progressed = [&](const lab::GridProgress& p) { progress.grid(p); },
      .noticed = [&](const std::string& line) { progress.line(line); },
      .run_finished = [&](const lab::RunResult& r) { progress.line(result_line(r)); },
      .stop_requested = [&] { return signals.received() != nullptr; }};
  const auto outcome = lab::run_experiment(backends, experiment, observer);
  if (outcome == lab::RunOutcome::stopped) {
    progress.line(fmt::format("{}: stopped with checkpoints; the same command goes on", signals.received()));
    throw Exit{kExitRequeue};
  }
  progress.line(
      fmt::format("all runs are finished; best of each model, accuracy of the final answer (the paper's in "
                  "brackets, * differs by more than sampling):\n{}",
                  lab::text_table(lab::read_store(experiment.folder))));
}

}  // namespace

std::string result_line(const lab::RunResult& r) {
  if (!r.failure.empty())
    return fmt::format("{}: failed after {} steps: {}", r.spec.name(), r.steps, r.failure);
  auto text = fmt::format("{}: {} steps, last at n = {}; accuracy", r.spec.name(), r.steps, r.last_n);
  for (const auto& l : r.lengths) text += fmt::format("  {}: {:.3f}", l.n, l.accuracy());
  return text;
}

void add_lab_run(CLI::App& lab) {
  auto* command = lab.add_subcommand(
      "run", "make the runs of an experiment, several at a time; run again to go on after an interruption");
  auto o = std::make_shared<Options>();
  command->add_option("experiment", o->experiment, "TOML file (docs/lab.md)")
      ->required()
      ->check(CLI::ExistingFile);
  command->add_option("--set", o->overrides, "override one key: train.steps=100")->allow_extra_args(false);
  command
      ->add_option("--jobs", o->jobs,
                   "runs at a time, 0: on the cpu one for each thread, on cuda " + std::to_string(kGpuJobs))
      ->check(CLI::Range(0, kMostJobs));
  o->backend.add_to(*command);
  command->callback([o] { run(*o); });
}

}  // namespace braid::app
