// SIGTERM and SIGUSR1, by which a cluster's scheduler asks a job to end.
#pragma once
#include <array>
#include <atomic>
#include <thread>

namespace braid::app {

// EX_TEMPFAIL of sysexits.h: not done, but the same command goes on.
inline constexpr int kExitRequeue = 75;

// While it lives, the first signal of each kind is noted, a second one of the same kind ends the process at
// once. To be made before any other thread: they inherit that both signals are blocked, and one thread waits
// for them, so that nothing runs inside a signal handler.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // "SIGTERM", or null.
  const char* received() const { return received_.load(); }

 private:
  void wait_for_signals(const std::stop_token& ended);

  std::atomic<const char*> received_ = nullptr;
  std::jthread waiter_;
};

}  // namespace braid::app
