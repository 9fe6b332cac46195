#include <csignal>

#include "braid/train/run.h"
#include "command.h"
#include "memory_text.h"
#include "status_line.h"
#include "stop_signals.h"
#include "table.h"

namespace braid::app {
namespace {

struct Options {
  std::string recipe;
  std::vector<std::string> overrides;
  BackendOptions backend;
};

// One line that follows the run: rewritten in place on a terminal, otherwise one every ten seconds.
class Progress {
 public:
  void step(const train::StepProgress& p) {
    warn(p.step, "training", p.result.saturated);
    const bool last = p.step == p.steps;
    if (!status_.due(last ? StatusLine::When::now : StatusLine::When::by_pace)) return;
    auto line =
        fmt::format("step {}/{}  loss {:.4f}  norm {:.2f}  lr {:.2e}  {:.0f} tok/s  {:.0f} GFLOP/s  left {}",
                    p.step, p.steps, p.result.loss, p.result.gradient_norm, p.result.learning_rate,
                    p.tokens_per_second, p.flops_per_second / 1e9, duration(p.seconds_left));
    if (p.result.skipped) line += "  skipped";
    if (p.result.saturated > 0) line += fmt::format("  saturated {}", p.result.saturated);
    status_.show(line);
    if (last) status_.keep();
  }
  // The first time; metrics.jsonl has them all.
  void warn(std::int64_t step, const char* work, std::uint64_t saturated) {
    if (saturated == 0 || warned_) return;
    warned_ = true;
    line(fmt::format("warning: step {}, {}: {}; metrics.jsonl counts them from here on", step, work,
                     saturation_text(saturated)));
  }
  void line(const std::string& text) {
    status_.keep();
    status_.line(text);
  }

 private:
  StatusLine status_{{.terminal = std::chrono::milliseconds(200), .elsewhere = std::chrono::seconds(10)}};
  bool warned_ = false;
};

void run(const Options& o) {
  const StopSignals signals;
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is then an error like a full disk
  const Backend backend = o.backend.make();
  const auto config = train::read_run_config(o.recipe, o.overrides);
  Progress progress;
  const train::Observer observer{
      .started =
          [&](const train::RunSummary& s) {
            progress.line(fmt::format("model: {:.2f}M parameters, {:.1f} MFLOP per trained token",
                                      static_cast<double>(s.parameters) / 1e6, s.flops_per_token / 1e6));
            progress.line(memory_text(s.memory));
            if (s.checkpoint_bytes > 0) {
              progress.line(fmt::format(
                  "checkpoints: copied to {} bytes of host memory, written while training goes on",
                  with_commas(static_cast<long long>(s.checkpoint_bytes))));
            }
            progress.line(fmt::format("data: {} sequences to train on, {} to validate; {} tokens per step",
                                      s.instances, s.validation_instances, s.tokens_per_step));
          },
      .stepped = [&](const train::StepProgress& p) { progress.step(p); },
      .validated =
          [&](const train::Validation& v) {
            progress.warn(v.step, "validation", v.saturated);
            progress.line(fmt::format("validation{} at step {}: loss {:.4f}, {:.4f} bits per byte",
                                      v.source.empty() ? "" : " '" + v.source + "'", v.step, v.loss,
                                      v.bits_per_byte));
          },
      .noticed = [&](const std::string& line) { progress.line(line); },
      .stop_requested = [&] { return signals.received() != nullptr; }};
  const auto outcome = train::run(backend, config, observer);
  const auto model = (config.folder / "model").string();
  if (outcome == train::RunOutcome::stopped) {
    progress.line(fmt::format("{}: stopped; the same command goes on", signals.received()));
    throw Exit{kExitRequeue};
  }
  if (outcome == train::RunOutcome::already_complete) {
    progress.line(fmt::format("{}: complete already, nothing to do", model));
  } else {
    progress.line(fmt::format("model written to {}", model));
  }
}

}  // namespace

void add_train(CLI::App& app) {
  auto* command =
      app.add_subcommand("train", "train a model by a recipe; run again to go on after an interruption");
  auto o = std::make_shared<Options>();
  command->add_option("recipe", o->recipe, "TOML recipe")->required()->check(CLI::ExistingFile);
  command->add_option("--set", o->overrides, "override one key: train.steps=100")->allow_extra_args(false);
  o->backend.add_to(*command);
  command->callback([o] { run(*o); });
}

}  // namespace braid::app
