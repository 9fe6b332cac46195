// Rings of boxes in shared memory that the copy engine fills.
#pragma once
#include "braid/backends/cuda/device/async_copy.cuh"

namespace braid::cuda {

// A place in a ring, and how often it was passed: the phase of its barrier to wait for.
struct Turn {
  int stage = 0, parity = 0;
  __device__ __forceinline__ void next(int stages) {
    if (++stage == stages) stage = 0, parity ^= 1;
  }
};

// A warp's arrival at a place's barrier, when it has read the place: the copy engine may write there again.
__device__ __forceinline__ void give_back(SharedAddress barrier, int lane) {
  fence_shared_for_async();
  __syncwarp();
  if (lane == 0) arrive(barrier);
}

// Where 16 bytes of a box's row of 128 lie: the copy engine permutes packets by the row.
inline constexpr int kBoxRowBytes = 128;
__device__ __forceinline__ SharedAddress packet_at(SharedAddress box, int row, int packet) {
  return box + row * kBoxRowBytes + ((packet ^ (row & 7)) << 4);
}

}  // namespace braid::cuda
