// Runs kernels written in CUDA C++ on the CPU, to see on a machine without a GPU whether they compute what
// they should. A block's threads are fibers that take turns and give way where the GPU's would wait: in
// warp-wide instructions, at barriers, and for the copy engine, whose copies land in random order. One block
// runs after another, in the order that is asked for. include/ has the headers of backends/cuda/device whose
// functions are one instruction of PTX each, written for this machine; a test compiles a kernel's header
// against them. The blocks of a cluster run together, each with its own dynamic shared memory.
//
// What it cannot see: races between threads between two such points, memory ordering but for what the copy
// engine writes over or stores, bank conflicts, time.
#pragma once
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <type_traits>
#include <vector>

namespace braid::test::emulation {

struct Launch {
  std::vector<unsigned> blocks;  // in this order; their number is the grid's
  unsigned threads;              // a multiple of 32, at most 1024
  std::uint64_t seed;            // of the threads' and copies' order
  unsigned cluster = 1;          // so many of `blocks` at a time form one; at most 4
};
// Runs `kernel` in every thread of every block. Throws what a thread throws, and where all of them wait for
// ever.
void run(const Launch&, const std::function<void()>& kernel);

// Of the thread that runs.
unsigned thread();
unsigned block();
unsigned blocks();
unsigned threads();
void give_way();

// Every lane of the warp leaves eight words; each sees all.
using Words = std::uint32_t[8];
void exchange(const Words& mine, Words (&all)[32]);
template <class T>
T take_from(T x, int lane) {
  static_assert(sizeof(T) <= sizeof(Words));
  Words mine{}, all[32];
  std::memcpy(mine, &x, sizeof(T));
  exchange(mine, all);
  std::memcpy(&x, all[lane], sizeof(T));
  return x;
}
inline int lane() { return static_cast<int>(thread() % 32); }

// Named barrier `which` (0: all threads) of so many threads; arrive_at: without waiting for the others.
void meet(int which, unsigned threads);
void arrive_at(int which, unsigned threads);
void meet_all();

// Every thread of the cluster arrives or has returned, then those that wait go on; a block's place in it.
void arrive_at_cluster();
void wait_for_cluster();
unsigned rank();

// Shared memory is among the program's variables (then that of all blocks of a cluster: kernels that run in
// clusters must not have it), and this besides, as much as a block may have; an address is the distance from
// a place well before them.
unsigned char* dynamic_shared();
std::uint32_t shared_address(const void* p);
char* shared_pointer(std::uint32_t address);
// Where block `rank` has what this block has at `address` of its dynamic memory. Throws where that block may
// not have begun, or has ended.
std::uint32_t address_of(unsigned rank, std::uint32_t address);

// The barriers of PTX's mbarrier instructions, by address. A phase ends with its arrivals and its copies'
// bytes.
void make_barrier(std::uint32_t address, int arrivals);
void arrive(std::uint32_t address, int expected_bytes);
void deliver(std::uint32_t address, int bytes);
bool passed(std::uint32_t address, int parity);
// Does `copy` at some later time.
void later(std::function<void()> copy);

// What a thread loads may still be on its way when it arrives at a barrier, and what it stores not yet be
// there for the copy engine. So both are noted, by load_matrices, store_matrices, load_shared and
// store_shared of include/ from the block's first mbarrier on, until the thread's own next fence (PTX may be
// content with one thread's for all, after a barrier); the copy engine throws where it writes over anything
// noted, or reads what was stored. What goes through plain pointers is not noted.
enum class Access { load, store };
void note(Access access, std::uint32_t address, std::uint32_t bytes);
void fence();
void overwrite(std::uint32_t address, std::uint32_t bytes);
void read_back(std::uint32_t address, std::uint32_t bytes);

// wgmma, whose products are the thread's own: they are done in order, at once or when the thread waits for
// their group, the same in all threads of a warp.
void start_product(std::function<void()> product);
void end_product_group();
void wait_for_product_groups(unsigned pending);

// cp.async, whose copies are the thread's own: each is done at once or when its thread waits for its group.
void copy_by_thread(std::function<void()> copy);
void end_group();
void wait_for_groups(unsigned pending);

// The copy engine's stores, in the same way.
void store_by_thread(std::function<void()> store);
void end_store_group();
void wait_for_store_groups(unsigned pending);

}  // namespace braid::test::emulation

// The language's own names.
#undef __shared__
#undef __global__
#undef __launch_bounds__
#undef __grid_constant__
#define __shared__ static
#define __global__
#define __launch_bounds__(...)
#define __grid_constant__

struct EmulatedIndex {
  unsigned (*value)();
  struct X {
    unsigned (*value)();
    operator unsigned() const { return value(); }
  } x{value};
};
inline const EmulatedIndex threadIdx{braid::test::emulation::thread}, blockIdx{braid::test::emulation::block},
    gridDim{braid::test::emulation::blocks}, blockDim{braid::test::emulation::threads};

template <class T>
T __shfl_xor_sync(unsigned, T x, int mask) {
  return braid::test::emulation::take_from(x, braid::test::emulation::lane() ^ mask);
}
template <class T>
T __shfl_up_sync(unsigned, T x, int by) {
  const int lane = braid::test::emulation::lane();
  return braid::test::emulation::take_from(x, lane >= by ? lane - by : lane);
}
template <class T>
T __shfl_down_sync(unsigned, T x, int by) {
  const int lane = braid::test::emulation::lane();
  return braid::test::emulation::take_from(x, lane + by < 32 ? lane + by : lane);
}
template <class T>
T __shfl_sync(unsigned, T x, int from) {
  return braid::test::emulation::take_from(x, from);
}
inline unsigned __ballot_sync(unsigned, bool vote) {
  braid::test::emulation::Words mine{vote}, all[32];
  braid::test::emulation::exchange(mine, all);
  unsigned votes = 0;
  for (int i = 0; i < 32; ++i) votes |= all[i][0] << i;
  return votes;
}
inline bool __any_sync(unsigned mask, bool vote) { return __ballot_sync(mask, vote) != 0; }
inline void __syncwarp() { __ballot_sync(0xffffffffU, false); }
inline void __syncthreads() { braid::test::emulation::meet_all(); }
inline void __threadfence() {}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
void __stcg(T* p, T x) {
  *p = x;
}
inline unsigned atomicAdd(std::uint32_t* p, unsigned x) {
  const unsigned before = *p;
  *p += x;
  return before;
}
inline float __uint_as_float(unsigned x) {
  float f = 0;
  std::memcpy(&f, &x, sizeof(f));
  return f;
}
template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  return a < b ? a : b;
}
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  return a < b ? b : a;
}
