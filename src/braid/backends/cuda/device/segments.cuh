// Look-up of segments on the device.
#pragma once
#include <cstdint>

namespace braid::cuda {

// Segment boundaries on the device: segment s holds tokens [offsets[s], offsets[s + 1]).
struct DeviceSegments {
  const std::int32_t* offsets;
  std::int32_t count;

  // The segment that token n lies in (the last of those that begin at or before n).
  __device__ __forceinline__ std::int32_t segment_of(std::int64_t n) const {
    std::int32_t low = 0, high = count;  // offsets[low] <= n < offsets[high]
    while (high - low > 1) {
      const std::int32_t middle = (low + high) / 2;
      if (offsets[middle] <= n) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

}  // namespace braid::cuda
