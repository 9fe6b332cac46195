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
inline void fence_shared_for_async() { test::emulation::fence(); }

inline void copy_bulk(SharedAddress to, const void* from, int bytes, SharedAddress barrier, CachePolicy) {
  if (to % 16 != 0 || reinterpret_cast<std::uintptr_t>(from) % 16 != 0 || bytes % 16 != 0) {
    throw std::runtime_error("emulation: a bulk copy is not of whole 16 bytes");
  }
  const auto check = [=] { test::emulation::overwrite(to, static_cast<std::uint32_t>(bytes)); };
  check();
  test::emulation::later([=] {
    check();
    std::memcpy(shared_pointer(to), from, static_cast<std::size_t>(bytes));
    test::emulation::deliver(barrier, bytes);
  });
}

// What a CUtensorMap describes: five dimensions, the contiguous one first; strides in elements.
struct EmulatedMap {
  bf16* data;
  std::int64_t shape[5], stride[5];
  int box[5];
  std::uint32_t bytes() const {
    std::uint32_t count = sizeof(bf16);
    for (const int n : box) count *= static_cast<std::uint32_t>(n);
    return count;
  }
};
// Of a (rows, columns) matrix.
inline EmulatedMap matrix_map(const bf16* data, std::int64_t rows, std::int64_t columns, int box_columns,
                              int box_rows) {
  return {.data = const_cast<bf16*>(data),
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
inline const EmulatedMap& described_by(const CUtensorMap& opaque) {
  const EmulatedMap* map = nullptr;
  std::memcpy(&map, &opaque, sizeof(map));
  return *map;
}

// Calls move(an element's place in shared memory, where the tensor has it; null outside) for all of a box.
template <class Move>
void for_box(const EmulatedMap& map, SharedAddress begin, const std::int64_t (&corner)[5], Move move) {
  if (begin % 128 != 0) throw std::runtime_error("emulation: a box does not begin on a multiple of 128");
  for (std::uint32_t i = 0; i < map.bytes() / sizeof(bf16); ++i) {
    bool inside = true;
    std::int64_t at = 0;
    for (int d = 0, rest = static_cast<int>(i); d < 5; rest /= map.box[d++]) {
      const std::int64_t c = corner[d] + rest % map.box[d];
      inside = inside && c >= 0 && c < map.shape[d];
      at += c * map.stride[d];
    }
    const SharedAddress place = begin + 2 * i;
    const SharedAddress permuted = place ^ (place >> 7 & 7) << 4;  // packets, by the row
    move(shared_pointer(permuted), inside ? map.data + at : nullptr);
  }
}

inline void copy_box(SharedAddress to, const CUtensorMap& from, SharedAddress barrier, int x, int y, int z,
                     int w, int v) {
  test::emulation::overwrite(to, described_by(from).bytes());
  test::emulation::later([=, &map = described_by(from)] {
    test::emulation::overwrite(to, map.bytes());
    for_box(map, to, {x, y, z, w, v}, [](char* place, const bf16* element) {
      const bf16 value = element != nullptr ? *element : __float2bfloat16_rn(0);
      std::memcpy(place, &value, sizeof(value));
    });
    test::emulation::deliver(barrier, static_cast<int>(map.bytes()));
  });
}
inline void store_box(const CUtensorMap& to, SharedAddress from, int x, int y) {
  test::emulation::read_back(from, described_by(to).bytes());
  test::emulation::store_by_thread([=, &map = described_by(to)] {
    test::emulation::read_back(from, map.bytes());
    for_box(map, from, {x, y, 0, 0, 0}, [](const char* place, bf16* element) {
      if (element != nullptr) std::memcpy(element, place, sizeof(*element));
    });
  });
}
inline void store_box(const CUtensorMap& to, SharedAddress from, CachePolicy, int x, int y) {
  store_box(to, from, x, y);
}
inline void commit_stores() { test::emulation::end_store_group(); }
inline void wait_for_stores_to_read() { test::emulation::wait_for_store_groups(0); }

inline void copy_box(SharedAddress to, const CUtensorMap& from, SharedAddress barrier, int x, int y) {
  copy_box(to, from, barrier, x, y, 0, 0, 0);
}
inline void copy_box(SharedAddress to, const CUtensorMap& from, SharedAddress barrier, CachePolicy, int x,
                     int y) {
  copy_box(to, from, barrier, x, y);
}
inline void prefetch_map(const CUtensorMap&) {}

}  // namespace braid::cuda
