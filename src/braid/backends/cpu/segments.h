// Checks and look-up of segments on the host.
#pragma once
#include <algorithm>
#include <string_view>

#include "braid/core/error.h"
#include "braid/ops/segments.h"

namespace braid::cpu {

inline void require_segments(std::string_view op, const ops::Segments& segments, std::int64_t tokens) {
  const std::int32_t* offset = segments.offsets.as<std::int32_t>();
  const std::int64_t S = segments.count();
  require(S >= 0 && offset[0] == 0 && offset[S] == tokens && std::is_sorted(offset, offset + S + 1),
          "{}: segments.offsets must ascend from 0 to {}", op, tokens);
}

// The segment that token n lies in.
inline std::int64_t segment_of(const ops::Segments& segments, std::int64_t n) {
  const std::int32_t* offset = segments.offsets.as<std::int32_t>();
  return std::upper_bound(offset, offset + segments.count() + 1, n) - offset - 1;
}

}  // namespace braid::cpu
