// Where sequences or documents begin in a flat run of N tokens. Every op that looks along the sequence takes
// one; nothing crosses a segment boundary.
#pragma once
#include "braid/core/tensor.h"

namespace braid::ops {

struct Segments {
  ConstTensor
      offsets;  // i32 (S + 1), ascending from 0 to N; segment s holds tokens [offsets[s], offsets[s+1])
  std::int64_t longest =
      0;  // no segment is longer than this; 0: not known, N. N = count · longest: all are equal
  std::int64_t count() const { return offsets.shape[0] - 1; }
};

}  // namespace braid::ops
