#include "braid/data/loader.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace braid::data {

Loader::Loader(Make make, std::int64_t first, std::int64_t last, const LoaderOptions& options)
    : make_(std::move(make)),
      next_(first),
      submitted_(first),
      last_(last),
      ahead_(options.ahead > 0 ? options.ahead : 2 * std::int64_t{options.threads}),
      work_(options.threads) {
  fill();
}

// Without threads nothing is made ahead.
void Loader::fill() {
  const auto limit = std::min(next_ + ahead_, last_ + 1);
  for (; submitted_ < limit; ++submitted_) {
    work_.submit([this, number = submitted_] { return make_(number); });
  }
}

Batch Loader::next() {
  using Clock = std::chrono::steady_clock;
  require(next_ <= last_, "batch {} is after the last one, {}", next_, last_);
  const auto begin = Clock::now();
  const auto add_wait = [&] {
    seconds_waited_ += std::chrono::duration<double>(Clock::now() - begin).count();
  };
  if (submitted_ == next_) {
    work_.submit([this, number = submitted_] { return make_(number); });
    ++submitted_;
  }
  ++next_;
  try {
    Batch batch = work_.next();
    add_wait();
    fill();
    return batch;
  } catch (...) {
    add_wait();
    throw;
  }
}

}  // namespace braid::data
