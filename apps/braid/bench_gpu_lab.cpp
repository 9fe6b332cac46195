// Many small runs on one GPU: steps a second of the lab's models, alone and several at a time.
#include <barrier>
#include <thread>

#include "bench_gpu.h"
#include "braid/data/loader.h"
#include "braid/lab/experiment/examples.h"
#include "braid/lab/experiment/growing_trainer.h"
#include "braid/model/counts.h"
#include "profile.h"

namespace braid::app::gpu_bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Model, batch and optimiser of configs/lab.
lab::Experiment experiment_of(const LabCase& c) {
  const bool swaps = c.problem == "swaps";
  return lab::parse_experiment(
      fmt::format(R"(name = "bench"
folder = "none"
[problem]
name = "{}"
{}
[model]
layers = 4
variant = "hybrid-3:1"
hidden_size = 256
intermediate_size = 1024
heads = 4
head_dim = 64
linear_key_dim = 64
linear_value_dim = 128
attention_norm = "pre"
max_positions = 4096
[train]
steps = 1000000
[[stage]]
n = {}
{}
[optimizer]
beta2 = 0.999
weight_decay = 0
z_loss = 0
[grid]
learning_rates = [3e-4]
schedules = ["constant"]
[evaluation]
lengths = [{}]
)",
                  c.problem, swaps ? "reveals = \"fixed\"\nwithout_reveals = 0.2" : "", c.n,
                  swaps ? fmt::format("reveal_spacing = {}", std::max<std::int64_t>(1, c.n / 4)) : "", c.n),
      "bench");
}

// One run: its own backend, trainer and data, as `braid lab run` has them, checks left out.
class LabRun {
 public:
  LabRun(const lab::Experiment& experiment, const lab::RunSpec& spec, Backend backend)
      : backend_(std::move(backend)),
        data_(experiment, spec.seed),
        trainer_(backend_, experiment.training(spec)),
        loader_([this](std::int64_t step) { return data_.training_batch(step, 0); }, 1, experiment.steps,
                {.threads = 1, .ahead = 8}) {}

  void step() {
    const auto batch = loader_.next();
    tokens_ += std::ssize(batch.ids);
    predicted_ += batch.predicted;
    trainer_.fit(batch.longest_segment).enqueue(batch, ++steps_);
  }
  // Waits for all of it; an error where the run has diverged.
  void finish() {
    const auto tally = trainer_->tally();
    require(tally.failed_step == 0, "bench: step {} is not finite", tally.failed_step);
    loss_ = tally.loss;
  }
  const Backend& backend() const { return backend_; }
  void forget() { tokens_ = predicted_ = 0, begun_ = steps_; }

  std::int64_t steps() const { return steps_ - begun_; }
  std::int64_t tokens() const { return tokens_; }
  std::int64_t predicted() const { return predicted_; }
  double loss() const { return loss_; }
  double flops_per_token(std::int64_t length) const {
    return model::training_flops(trainer_.config().model, length);
  }
  double seconds_waited() const { return loader_.seconds_waited(); }

 private:
  Backend backend_;
  lab::RunData data_;
  lab::GrowingTrainer trainer_;
  data::Loader loader_;
  std::int64_t steps_ = 0, begun_ = 0, tokens_ = 0, predicted_ = 0;
  double loss_ = 0;
};

lab::RunSpec spec_of(lab::Architecture architecture, std::int64_t seed) {
  return {
      .architecture = architecture, .learning_rate = 3e-4, .schedule = train::Decay::constant, .seed = seed};
}

// Each op with a launch and a wait for the device of its own.
void print_ops(const LabCase& c, lab::Architecture architecture) {
  constexpr int kSteps = 5;
  const auto experiment = experiment_of(c);
  LabRun run(experiment, spec_of(architecture, 1), profiled(make_backend("cuda")));
  for (int step = 0; step < kSteps; ++step) run.step();
  reset_op_times(run.backend());
  for (int step = 0; step < kSteps; ++step) run.step();
  for (const auto& t : op_times(run.backend())) {
    fmt::print("    {:<42}{:>9.1f} us a call{:>9.1f} us a step{:>7} calls a step\n", t.name,
               1e6 * t.seconds / static_cast<double>(t.calls), 1e6 * t.seconds / kSteps, t.calls / kSteps);
  }
}

void bench_runs(const LabCase& c, lab::Architecture architecture, std::int64_t runs, double budget) {
  const auto experiment = experiment_of(c);
  constexpr int kWarmUp = 12;  // every size of batch is planned and recorded
  std::vector<std::unique_ptr<LabRun>> all;
  for (std::int64_t i = 0; i < runs; ++i) {
    all.push_back(std::make_unique<LabRun>(experiment, spec_of(architecture, i + 1), make_backend("cuda")));
  }
  std::barrier ready(runs + 1);
  std::vector<std::jthread> threads;
  std::exception_ptr error;
  std::mutex mutex;
  std::vector<double> seconds(static_cast<std::size_t>(runs)), waited = seconds;
  for (std::size_t i = 0; i < all.size(); ++i) {
    threads.emplace_back([&, i] {
      auto& run = *all[i];
      bool broken = false;
      const auto attempt = [&](auto&& work) {
        try {
          if (!broken) work();
        } catch (...) {
          broken = true;
          const std::scoped_lock lock(mutex);
          error = std::current_exception();
        }
      };
      attempt([&] {
        for (int step = 0; step < kWarmUp; ++step) run.step();
        run.finish();
        run.forget();
      });
      ready.arrive_and_wait();
      const auto begin = Clock::now();
      const double before = run.seconds_waited();
      attempt([&] {
        while (seconds_since(begin) < budget) run.step();
        run.finish();
      });
      seconds[i] = seconds_since(begin);
      waited[i] = run.seconds_waited() - before;
    });
  }
  ready.arrive_and_wait();
  threads.clear();
  if (error) std::rethrow_exception(error);
  double steps = 0, tokens = 0, predicted = 0, waiting = 0, flops = 0;
  std::int64_t counted = 0, all_tokens = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& run = *all[i];
    steps += static_cast<double>(run.steps()) / seconds[i];
    tokens += static_cast<double>(run.tokens()) / seconds[i];
    predicted += static_cast<double>(run.predicted()) / seconds[i];
    waiting += waited[i] / seconds[i] / static_cast<double>(runs);
    counted += run.steps();
    all_tokens += run.tokens();
  }
  const auto length = all_tokens / counted / experiment.batch_size;
  flops = tokens * all.front()->flops_per_token(length);
  fmt::print(
      "{:<17}{:<8}{:>4}{:>6} run(s){:>10.1f} steps/s{:>9.3f} ms/step of a run{:>9.2f} M tokens/s{:>8.1f} "
      "TFLOP/s"
      "{:>7} tokens/step{:>6.1f}% predicted{:>6.1f}% waiting for data, loss {:.3f}\n",
      lab::name_of(architecture), c.problem, c.n, runs, steps, 1e3 * static_cast<double>(runs) / steps,
      tokens / 1e6, flops / 1e12, all_tokens / counted, 100 * predicted / tokens, 100 * waiting,
      all.front()->loss());
  std::fflush(stdout);
}

}  // namespace

void bench_lab(const Options& o) {
  using enum lab::Architecture;
  for (const auto runs : o.lab_runs) {
    for (const auto& c : {LabCase{"swaps", 8}, LabCase{"swaps", 64}, LabCase{"recall", 128}}) {
      if (std::ranges::find(o.lab_cases, fmt::format("{}-{}", c.problem, c.n)) == o.lab_cases.end()) continue;
      for (const auto architecture : {transformer, gdn_negative, hybrid_negative}) {
        if (std::ranges::find(o.lab_models, lab::name_of(architecture)) == o.lab_models.end()) continue;
        bench_runs(c, architecture, runs, o.lab_seconds);
        if (o.by_op && runs == o.lab_runs.front()) print_ops(c, architecture);
      }
    }
  }
}

}  // namespace braid::app::gpu_bench
