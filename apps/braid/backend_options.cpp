#include <algorithm>
#include <cstdio>
#include <thread>

#include "command.h"

namespace braid::app {

void BackendOptions::add_to(CLI::App& command) {
  command.add_option("--backend,--device", name, "cpu, cuda (one GPU), or reference (plain loops, slow)")
      ->check(CLI::IsMember({"cpu", "cuda", "reference"}))
      ->capture_default_str();
  command.add_option("--threads", threads, "threads of the cpu, 0: all")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  command.add_flag("--strict", strict,
                   "results of one sequence do not depend on its neighbours, bit for bit (not on cuda)");
  command.add_option("--simd", target, "force a SIMD target (AVX3, AVX2, SCALAR), for tests");
}

Backend BackendOptions::make() const {
  // Threads that only take turns on a core wait for each other at every op.
  const int most = 4 * std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  require(threads <= most, "--threads {} is more than {}, four for each core here", threads, most);
  return make_backend(name, {.threads = threads, .target = target},
                      strict ? Arithmetic::strict : Arithmetic::fast);
}

std::string saturation_text(std::uint64_t values) {
  return fmt::format("{} values of the delta rule left f16's range and were clamped to it", values);
}

void warn_of_numerical_events(const Backend& backend) {
  const auto saturated = backend.numerical_events().saturated;
  if (saturated > 0) fmt::print(stderr, "warning: {}\n", saturation_text(saturated));
}

}  // namespace braid::app
