// Whether a kernel gives the same bits again and again.
#pragma once
#include <fmt/format.h>

#include <vector>

#include "tests/support/comparator.h"

namespace braid::test {

// run() gives the same tensors ten times more. With as many rows as a training step has, a tile that is
// overwritten while it is read shows as other bits, now and then.
template <class Run>
void expect_same_again(Run run, std::source_location at = std::source_location::current()) {
  const std::vector<ConstTensor> first = run();
  for (int repeat = 0; repeat < 10; ++repeat) {
    const std::vector<ConstTensor> again = run();
    for (std::size_t i = 0; i < first.size(); ++i) {
      expect_same(again[i], first[i], fmt::format("tensor {} of repeat {}", i, repeat), at);
    }
  }
}

}  // namespace braid::test
