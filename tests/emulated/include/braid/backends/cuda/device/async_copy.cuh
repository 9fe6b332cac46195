// As src/braid/backends/cuda/device/async_copy.cuh, emulated: what the emulated kernels use of it.
#pragma once
#include "braid/backends/cuda/device/cache_policy.cuh"
#include "braid/backends/cuda/device/tensor_core.cuh"

namespace braid::cuda {

inline void init_barrier(SharedAddress barrier, int arrivals) {
  test::emulation::make_barrier(barrier, arrivals);
}
inline void publish_barriers() {}
inline void arrive(SharedAddress barrier) { test::emulation::arrive(barrier, 0); }
inline void arrive_expecting(SharedAddress barrier, int bytes) { test::emulation::arrive(barrier, bytes); }
inline void wait_for_phase(SharedAddress barrier, int parity) {
  while (!test::emulation::passed(barrier, parity)) test::emulation::give_way();
}
inline void fence_shared_for_async() {}

inline void copy_bulk(SharedAddress to, const void* from, int bytes, SharedAddress barrier, CachePolicy) {
  if (to % 16 != 0 || reinterpret_cast<std::uintptr_t>(from) % 16 != 0 || bytes % 16 != 0) {
    throw std::runtime_error("emulation: a bulk copy is not of whole 16 bytes");
  }
  test::emulation::later([=] {
    std::memcpy(shared_pointer(to), from, static_cast<std::size_t>(bytes));
    test::emulation::deliver(barrier, bytes);
  });
}

// What a CUtensorMap describes: five dimensions, the contiguous one first; strides in elements.
struct EmulatedMap {
  const bf16* data;
  std::int64_t shape[5], stride[5];
  int box[5];
};
// Of a (rows, columns) matrix.
inline EmulatedMap matrix_map(const bf16* data, std::int64_t rows, std::int64_t columns, int box_columns,
                              int box_rows) {
  return {.data = data,
          .shape = {columns, rows, 1, 1, 1},
          .stride = {1, columns, 0, 0, 0},
          .box = {box_columns, box_rows, 1, 1, 1}};
}
inline CUtensorMap tensor_map_of(const EmulatedMap& map) {
  CUtensorMap opaque{};
  const EmulatedMap* address = &map;
  std::memcpy(&opaque, &address, sizeof(address));
  return opaque;
}

inline void copy_box(SharedAddress to, const CUtensorMap& from, SharedAddress barrier, int x, int y, int z,
                     int w, int v) {
  const EmulatedMap* map = nullptr;
  std::memcpy(&map, &from, sizeof(map));
  test::emulation::later([=] {
    const std::int64_t corner[5] = {x, y, z, w, v};
    int count = 1;
    for (const int n : map->box) count *= n;
    for (int i = 0; i < count; ++i) {
      bool inside = true;
      std::int64_t at = 0;
      for (int d = 0, rest = i; d < 5; rest /= map->box[d++]) {
        const std::int64_t c = corner[d] + rest % map->box[d];
        inside = inside && c >= 0 && c < map->shape[d];
        at += c * map->stride[d];
      }
      const bf16 value = inside ? map->data[at] : __float2bfloat16_rn(0);
      const SharedAddress place = to + static_cast<SharedAddress>(2 * i);
      std::memcpy(shared_pointer(place ^ (place >> 7 & 7) << 4), &value, 2);  // packets permuted by the row
    }
    test::emulation::deliver(barrier, 2 * count);
  });
}

inline void copy_box(SharedAddress to, const CUtensorMap& from, SharedAddress barrier, int x, int y) {
  copy_box(to, from, barrier, x, y, 0, 0, 0);
}
inline void copy_box(SharedAddress to, const CUtensorMap& from, SharedAddress barrier, CachePolicy, int x,
                     int y) {
  copy_box(to, from, barrier, x, y);
}
inline void prefetch_map(const CUtensorMap&) {}

}  // namespace braid::cuda
