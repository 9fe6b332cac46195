#include <unistd.h>

#include <chrono>
#include <csignal>

#include "braid/train/run.h"
#include "command.h"
#include "memory_text.h"
#include "stop_signals.h"
#include "table.h"

namespace braid::app {
namespace {

struct Options {
  std::string recipe;
  std::vector<std::string> overrides;
  BackendOptions backend;
};

std::string duration(double seconds) {
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  if (s >= 3600) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return fmt::format("{}m{:02}s", s / 60, s % 60);
}

// One line that follows the run: rewritten in place on a terminal, otherwise one every ten seconds.
class Progress {
 public:
  void step(const train::StepProgress& p) {
    warn(p.step, "training", p.result.saturated);
    const auto now = std::chrono::steady_clock::now();
    const bool last = p.step == p.steps;
    if (!last && printed_ &&
        now - shown_ < (terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(10))) {
      return;
    }
    printed_ = true;
    shown_ = now;
    auto line =
        fmt::format("step {}/{}  loss {:.4f}  norm {:.2f}  lr {:.2e}  {:.0f} tok/s  {:.0f} GFLOP/s  left {}",
                    p.step, p.steps, p.result.loss, p.result.gradient_norm, p.result.learning_rate,
                    p.tokens_per_second, p.flops_per_second / 1e9, duration(p.seconds_left));
    if (p.result.skipped) line += "  skipped";
    if (p.result.saturated > 0) line += fmt::format("  saturated {}", p.result.saturated);
    if (terminal_) {
      fmt::print("\r\033[K{}", line);
      open_ = true;
      if (last) end_line();
    } else {
      fmt::print("{}\n", line);
    }
    std::fflush(stdout);
  }
  // The first time; metrics.jsonl has them all.
  void warn(std::int64_t step, const char* work, std::uint64_t saturated) {
    if (saturated == 0 || warned_) return;
    warned_ = true;
    line(fmt::format("warning: step {}, {}: {}; metrics.jsonl counts them from here on", step, work,
                     saturation_text(saturated)));
  }
  void line(const std::string& text) {
    end_line();
    fmt::print("{}\n", text);
    std::fflush(stdout);
  }

 private:
  void end_line() {
    if (open_) fmt::print("\n");
    open_ = false;
  }
  bool terminal_ = ::isatty(1) == 1, open_ = false, printed_ = false, warned_ = false;
  std::chrono::steady_clock::time_point shown_;
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
