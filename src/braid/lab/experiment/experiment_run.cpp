#include "braid/lab/experiment/experiment_run.h"

#include <atomic>
#include <chrono>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

namespace braid::lab {
namespace {

using Clock = std::chrono::steady_clock;

class GridRun {
 public:
  GridRun(const Experiment& experiment, const GridObserver& observer)
      : experiment_(experiment), observer_(observer), store_(experiment), begin_(Clock::now()) {
    for (const auto& spec : experiment.runs()) {
      ++progress_.runs;
      if (!store_.finished(spec)) {
        waiting_.push_back(spec);
        continue;
      }
      ++progress_.finished;
      if (!read_result(store_.folder_of(spec) / "result.json").failure.empty()) ++progress_.failed;
    }
  }

  RunOutcome run(std::span<const Backend> backends) {
    {
      const std::scoped_lock lock(mutex_);
      report();
    }
    std::vector<std::jthread> workers;
    for (std::size_t i = 0; i < std::min(backends.size(), waiting_.size()); ++i) {
      workers.emplace_back([this, &backend = backends[i]] { work(backend); });
    }
    for (auto& worker : workers) worker.join();
    if (error_) std::rethrow_exception(error_);
    return stopped_ ? RunOutcome::stopped : RunOutcome::finished;
  }

 private:
  bool stop_requested() const { return failed_ || (observer_.stop_requested && observer_.stop_requested()); }

  std::optional<RunSpec> next() {
    const std::scoped_lock lock(mutex_);
    if (next_ == waiting_.size()) return std::nullopt;
    if (stop_requested()) {
      stopped_ = true;
      return std::nullopt;
    }
    const auto& spec = waiting_[next_++];
    running_[spec.name()] = {};
    return spec;
  }

  void work(const Backend& backend) {
    try {
      while (const auto spec = next()) {
        const auto name = spec->name();
        const RunObserver watch{.checked = [&](const RunProgress& p) { checked(name, p); },
                                .noticed = [&](const std::string& line) { notice(line); },
                                .stop_requested = [&] { return stop_requested(); }};
        const auto outcome = run_one(backend, experiment_, *spec, store_, watch);
        ended(*spec, outcome);
      }
    } catch (...) {
      const std::scoped_lock lock(mutex_);
      if (!error_) error_ = std::current_exception();
      failed_ = true;
    }
  }

  void notice(const std::string& line) {
    const std::scoped_lock lock(mutex_);
    if (observer_.noticed) observer_.noticed(line);
  }

  void checked(const std::string& name, const RunProgress& p) {
    const std::scoped_lock lock(mutex_);
    auto& running = running_[name];
    steps_done_ += p.check.step - (running.steps != 0 ? running.check.step : p.first_step);
    running = p;
    report();
  }

  void ended(const RunSpec& spec, RunOutcome outcome) {
    const std::scoped_lock lock(mutex_);
    running_.erase(spec.name());
    if (outcome == RunOutcome::stopped) {
      stopped_ = true;
      return;
    }
    ++progress_.finished;
    const auto result = read_result(store_.folder_of(spec) / "result.json");
    if (!result.failure.empty()) ++progress_.failed;
    if (observer_.run_finished) observer_.run_finished(result);
    report();
  }

  void report() {
    if (!observer_.progressed) return;
    auto& p = progress_;
    p.seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    p.running.clear();
    auto left = static_cast<std::int64_t>(waiting_.size() - next_) * experiment_.steps;
    for (const auto& [name, running] : running_) {
      p.running.push_back({name, running});
      left += experiment_.steps - running.check.step;
    }
    p.steps_per_second = p.seconds > 0 ? static_cast<double>(steps_done_) / p.seconds : 0;
    p.seconds_left = steps_done_ > 0 ? static_cast<double>(left) / p.steps_per_second : 0;
    observer_.progressed(p);
  }

  const Experiment& experiment_;
  const GridObserver& observer_;
  Store store_;
  const Clock::time_point begin_;
  std::vector<RunSpec> waiting_;  // from next_ on
  std::atomic<bool> failed_ = false;

  std::mutex mutex_;  // of what follows
  std::size_t next_ = 0;
  std::map<std::string, RunProgress> running_;
  GridProgress progress_;
  std::int64_t steps_done_ = 0;
  bool stopped_ = false;
  std::exception_ptr error_;
};

}  // namespace

RunOutcome run_experiment(std::span<const Backend> backends, const Experiment& experiment,
                          const GridObserver& observer) {
  require(!backends.empty(), "lab: no backend to run on");
  return GridRun(experiment, observer).run(backends);
}

}  // namespace braid::lab
