// Batches made ahead of their use.
#pragma once
#include <cstdint>
#include <functional>

#include "braid/data/batches.h"
#include "braid/data/ordered_work.h"

namespace braid::data {

struct LoaderOptions {
  int threads = 1;         // 0: each batch is made when it is asked for
  std::int64_t ahead = 0;  // batches that may wait, made or being made; 0: two for each thread
};

// Batches number `first` to `last`, in that order whatever the threads' timing. Since `make` is a pure
// function of the number, so is what comes out. Used by one thread.
class Loader {
 public:
  using Make = std::function<Batch(std::int64_t number)>;  // called from several threads at once

  Loader(Make make, std::int64_t first, std::int64_t last, const LoaderOptions& options);

  // The next batch; what making it threw is thrown here, in its turn. An error after the last one.
  Batch next();
  std::int64_t next_number() const { return next_; }
  // How long next() has kept its callers waiting, making batches itself included.
  double seconds_waited() const { return seconds_waited_; }

 private:
  void fill();

  Make make_;
  std::int64_t next_, submitted_, last_, ahead_;
  double seconds_waited_ = 0;
  OrderedWork<Batch> work_;  // its threads use make_: it goes first
};

}  // namespace braid::data
