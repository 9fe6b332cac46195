#include "stop_signals.h"

#include <csignal>
#include <ctime>

namespace braid::app {
namespace {

::sigset_t stop_signals() {
  ::sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  ::sigaddset(&set, SIGUSR1);
  return set;
}

// As if it had never been blocked.
void die_of(int signal) {
  const auto set = stop_signals();
  std::signal(signal, SIG_DFL);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  std::raise(signal);
}

}  // namespace

StopSignals::StopSignals() {
  const auto set = stop_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  waiter_ = std::jthread([this](const std::stop_token& ended) { wait_for_signals(ended); });
}

StopSignals::~StopSignals() {
  waiter_.request_stop();
  waiter_.join();
  const auto set = stop_signals();
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void StopSignals::wait_for_signals(const std::stop_token& ended) {
  const auto set = stop_signals();
  constexpr ::timespec kInterval{.tv_sec = 0, .tv_nsec = 50'000'000};  // until `ended` is looked at again
  bool terminated = false, user = false;
  while (!ended.stop_requested()) {
    const int signal = ::sigtimedwait(&set, nullptr, &kInterval);
    if (signal < 0) continue;
    bool& before = signal == SIGTERM ? terminated : user;
    if (before) die_of(signal);
    before = true;
    received_ = signal == SIGTERM ? "SIGTERM" : "SIGUSR1";
  }
}

}  // namespace braid::app
