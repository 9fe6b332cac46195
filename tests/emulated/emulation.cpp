#include "tests/emulated/emulation.h"

#include <ucontext.h>

#include <algorithm>
#include <exception>
#include <map>
#include <numeric>
#include <random>

namespace braid::test::emulation {
namespace {

constexpr unsigned kMostThreads = 1024;
constexpr std::size_t kStackBytes = std::size_t{1} << 18;
constexpr int kMostIdleRounds = 4;  // in which no thread gets on and no copy lands: they wait for ever

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  bool done = true;
};
struct Exchange {
  int arrived = 0, unread = 0;
  Words words[32];
};
struct Barrier {
  unsigned arrived = 0, generation = 0;
};
struct CountedBarrier {
  int arrivals, missing;
  std::int64_t bytes = 0;  // expected and not delivered
  int phase = 0;
};

// One machine: a test's threads of the system would each need their own.
struct Machine {
  Fiber fibers[kMostThreads];
  ucontext_t scheduler;
  Exchange warps[kMostThreads / 32];
  Barrier barriers[16];
  std::map<std::uint32_t, CountedBarrier> counted;
  std::vector<std::function<void()>> copies;
  std::function<void()> kernel;
  std::exception_ptr error;
  bool moved = false;  // a thread has got on
  unsigned thread = 0, block = 0, blocks = 0, threads = 0;
} machine;

void enter() {
  try {
    machine.kernel();
  } catch (...) {
    if (!machine.error) machine.error = std::current_exception();
  }
  Fiber& mine = machine.fibers[machine.thread];
  mine.done = machine.moved = true;
  swapcontext(&mine.context, &machine.scheduler);
}

void start(Fiber& fiber) {
  fiber.stack.resize(kStackBytes);
  fiber.done = false;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.data();
  fiber.context.uc_stack.ss_size = fiber.stack.size();
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, enter, 0);
}

void run_block(std::mt19937_64& random) {
  machine.counted.clear();
  machine.copies.clear();
  std::ranges::fill(machine.warps, Exchange{});
  std::ranges::fill(machine.barriers, Barrier{});
  for (unsigned t = 0; t < machine.threads; ++t) start(machine.fibers[t]);
  std::vector<unsigned> warps(machine.threads / 32);
  std::iota(warps.begin(), warps.end(), 0U);
  // Copies that are quick, or so slow that threads wait for each of them.
  const std::uint64_t rounds_to_copy = std::uint64_t{1} << random() % 11;
  int idle = 0;
  for (std::int64_t round = 0;; ++round) {
    if (round % 16 == 0) std::ranges::shuffle(warps, random);
    bool running = false;
    machine.moved = false;
    for (const unsigned warp : warps) {
      for (unsigned t = 32 * warp; t < 32 * (warp + 1); ++t) {
        if (machine.fibers[t].done) continue;
        running = true;
        machine.thread = t;
        swapcontext(&machine.scheduler, &machine.fibers[t].context);
        if (machine.error) std::rethrow_exception(machine.error);
      }
    }
    if (!running) break;
    idle = machine.moved ? 0 : idle + 1;
    if (!machine.copies.empty() && (idle > 0 || random() % rounds_to_copy == 0)) {
      std::swap(machine.copies[random() % machine.copies.size()], machine.copies.back());
      const auto copy = std::move(machine.copies.back());
      machine.copies.pop_back();
      copy();
      idle = 0;
    }
    if (idle > kMostIdleRounds) throw std::runtime_error("emulation: the threads wait for ever");
  }
  if (!machine.copies.empty()) throw std::runtime_error("emulation: a block ended before its copies");
}

CountedBarrier& counted(std::uint32_t address) {
  const auto found = machine.counted.find(address);
  if (found == machine.counted.end()) throw std::runtime_error("emulation: no barrier at this address");
  return found->second;
}

void settle(CountedBarrier& barrier) {
  machine.moved = true;
  if (barrier.missing < 0) throw std::runtime_error("emulation: more arrivals than a phase has");
  if (barrier.missing != 0 || barrier.bytes != 0) return;
  barrier.missing = barrier.arrivals;
  ++barrier.phase;
}

alignas(1024) unsigned char dynamic_memory[228 * 1024];
std::uintptr_t shared_begin() {
  return reinterpret_cast<std::uintptr_t>(dynamic_memory) - (std::uintptr_t{1} << 30);
}

}  // namespace

unsigned char* dynamic_shared() { return dynamic_memory; }
std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(p) - shared_begin());
}
char* shared_pointer(std::uint32_t address) { return reinterpret_cast<char*>(shared_begin() + address); }

void run(const Launch& launch, const std::function<void()>& kernel) {
  if (launch.threads == 0 || launch.threads % 32 != 0 || launch.threads > kMostThreads) {
    throw std::invalid_argument("emulation: threads must be a multiple of 32, at most 1024");
  }
  machine.kernel = kernel;
  machine.error = nullptr;
  machine.threads = launch.threads;
  machine.blocks = static_cast<unsigned>(launch.blocks.size());
  std::mt19937_64 random(launch.seed);
  for (const unsigned block : launch.blocks) {
    machine.block = block;
    run_block(random);
  }
}

unsigned thread() { return machine.thread; }
unsigned block() { return machine.block; }
unsigned blocks() { return machine.blocks; }
unsigned threads() { return machine.threads; }

void give_way() {
  const unsigned mine = machine.thread;
  swapcontext(&machine.fibers[mine].context, &machine.scheduler);
}

void exchange(const Words& mine, Words (&all)[32]) {
  Exchange& warp = machine.warps[thread() / 32];
  while (warp.unread != 0) give_way();  // the last one's words
  std::memcpy(warp.words[lane()], mine, sizeof(mine));
  machine.moved = true;
  if (++warp.arrived == 32) {
    warp.arrived = 0;
    warp.unread = 32;
  }
  while (warp.unread == 0) give_way();
  std::memcpy(all, warp.words, sizeof(all));
  --warp.unread;
  machine.moved = true;
}

void meet(int which, unsigned threads) {
  Barrier& barrier = machine.barriers[which];
  const unsigned generation = barrier.generation;
  machine.moved = true;
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.generation;
  }
  while (barrier.generation == generation) give_way();
}
void meet_all() { meet(0, machine.threads); }

void make_barrier(std::uint32_t address, int arrivals) {
  machine.counted[address] = {.arrivals = arrivals, .missing = arrivals};
}
void arrive(std::uint32_t address, int expected_bytes) {
  CountedBarrier& barrier = counted(address);
  barrier.bytes += expected_bytes;
  --barrier.missing;
  settle(barrier);
}
void deliver(std::uint32_t address, int bytes) {
  CountedBarrier& barrier = counted(address);
  barrier.bytes -= bytes;
  settle(barrier);
}
bool passed(std::uint32_t address, int parity) { return counted(address).phase % 2 != parity; }

void later(std::function<void()> copy) { machine.copies.push_back(std::move(copy)); }

}  // namespace braid::test::emulation
