#include "tests/emulated/emulation.h"

#include <ucontext.h>

#include <algorithm>
#include <exception>
#include <map>
#include <numeric>
#include <random>
#include <span>

namespace braid::test::emulation {
namespace {

constexpr unsigned kMostThreads = 1024, kMostCluster = 4;
constexpr std::size_t kStackBytes = std::size_t{1} << 18;
constexpr int kMostIdleRounds = 4;  // in which no thread gets on and no copy lands: they wait for ever

// What is not done, the last group still open.
using Groups = std::vector<std::vector<std::function<void()>>>;

bool any_in(const Groups& groups) {
  return std::ranges::any_of(groups, [](const auto& group) { return !group.empty(); });
}
void finish_groups(Groups& groups, unsigned pending) {
  while (groups.size() > pending + 1) {
    for (const auto& work : groups.front()) work();
    groups.erase(groups.begin());
  }
}

struct Noted {
  Access access;
  std::uint32_t begin, end;
};
struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  bool done = true;
  bool arrived = false;       // at the cluster's barrier
  std::uint64_t arrival = 0;  // the phase in which it last did
  Groups copies, stores, products;
  std::vector<Noted> noted;  // without a fence since
  std::uint64_t products_started = 0;
};
struct Exchange {
  int arrived = 0, unread = 0;
  Words words[32];
};
struct Barrier {
  unsigned arrived = 0, generation = 0, threads = 0;  // threads: of this generation's arrivals
};
struct CountedBarrier {
  int arrivals, missing;
  std::int64_t bytes = 0;  // expected and not delivered
  int phase = 0;
};

// One machine: a test's threads of the system would each need their own. Fibers are those of a cluster's
// blocks, one block after another.
struct Machine {
  Fiber fibers[kMostThreads * kMostCluster];
  ucontext_t scheduler;
  Exchange warps[kMostThreads * kMostCluster / 32];
  Barrier barriers[kMostCluster][16];
  std::uint64_t cluster_phase = 0;
  std::map<std::uint32_t, CountedBarrier> counted;
  std::vector<std::function<void()>> copies;
  std::function<void()> kernel;
  std::exception_ptr error;
  std::mt19937_64 copy_order;
  std::uint64_t seed = 0;
  bool moved = false;                           // a thread has got on
  std::span<const unsigned> cluster;            // its blocks
  unsigned fiber = 0, blocks = 0, threads = 0;  // fiber: that runs
  unsigned fibers_in_use() const { return threads * static_cast<unsigned>(cluster.size()); }
} machine;

Fiber& mine() { return machine.fibers[machine.fiber]; }
std::span<Fiber> fibers() { return std::span(machine.fibers).first(machine.fibers_in_use()); }

void settle_cluster() {
  bool any = false;
  for (const Fiber& f : fibers()) {
    if (!f.done && !f.arrived) return;
    any = any || f.arrived;
  }
  if (!any) return;
  for (Fiber& f : fibers()) f.arrived = false;
  ++machine.cluster_phase;
  machine.moved = true;
}

void enter() {
  try {
    machine.kernel();
  } catch (...) {
    if (!machine.error) machine.error = std::current_exception();
  }
  mine().done = machine.moved = true;
  settle_cluster();
  swapcontext(&mine().context, &machine.scheduler);
}

void start(Fiber& fiber) {
  fiber.stack.resize(kStackBytes);
  fiber.done = fiber.arrived = false;
  fiber.copies.assign(1, {});
  fiber.stores.assign(1, {});
  fiber.noted.clear();
  fiber.products.assign(1, {});
  fiber.products_started = 0;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.data();
  fiber.context.uc_stack.ss_size = fiber.stack.size();
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, enter, 0);
}

void run_cluster(std::mt19937_64& random) {
  machine.counted.clear();
  machine.copies.clear();
  machine.cluster_phase = 0;
  std::ranges::fill(machine.warps, Exchange{});
  for (auto& barriers : machine.barriers) std::ranges::fill(barriers, Barrier{});
  for (Fiber& fiber : fibers()) start(fiber);
  std::vector<unsigned> warps(machine.fibers_in_use() / 32);
  std::iota(warps.begin(), warps.end(), 0U);
  // Copies that are quick, or so slow that threads wait for each of them; warps that keep step, or stand
  // still now and then, so that others get far ahead of them.
  const std::uint64_t rounds_to_copy = std::uint64_t{1} << random() % 11;
  const std::uint64_t rounds_to_pause = std::uint64_t{64} << random() % 8;
  std::vector<std::uint64_t> pauses(warps.size());  // rounds that a warp still stands still
  int idle = 0;
  for (std::int64_t round = 0;; ++round) {
    if (round % 16 == 0) std::ranges::shuffle(warps, random);
    bool running = false;
    machine.moved = false;
    for (const unsigned warp : warps) {
      if (pauses[warp] == 0 && random() % rounds_to_pause == 0) pauses[warp] = 1 + random() % 64;
      if (pauses[warp] > 0) {
        --pauses[warp];
        running = machine.moved = true;
        continue;
      }
      for (unsigned t = 32 * warp; t < 32 * (warp + 1); ++t) {
        if (machine.fibers[t].done) continue;
        running = true;
        machine.fiber = t;
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
  for (const auto& barriers : machine.barriers) {
    if (std::ranges::any_of(barriers, [](const Barrier& b) { return b.arrived != 0; })) {
      throw std::runtime_error("emulation: a block ended with a named barrier half full");
    }
  }
  const auto copies = [](const Fiber& f) { return any_in(f.copies) || any_in(f.stores); };
  if (!machine.copies.empty() || std::ranges::any_of(fibers(), copies))
    throw std::runtime_error("emulation: a block ended before its copies");
  if (std::ranges::any_of(fibers(), [](const Fiber& f) { return any_in(f.products); }))
    throw std::runtime_error("emulation: a block ended before its products");
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

template <class Which>
bool any_noted(std::uint32_t address, std::uint32_t bytes, Which which) {
  for (const Fiber& f : fibers()) {
    for (const Noted& n : f.noted) {
      if (which(n.access) && n.begin < address + bytes && address < n.end) return true;
    }
  }
  return false;
}

void now_or_later(Groups& groups, std::function<void()> copy) {
  if (machine.copy_order() % 2 == 0) return copy();
  groups.back().push_back(std::move(copy));
}

constexpr std::uint32_t kDynamicBytes = 228 * 1024;
alignas(1024) unsigned char dynamic_memory[kMostCluster][kDynamicBytes];
std::uintptr_t shared_begin() {
  return reinterpret_cast<std::uintptr_t>(dynamic_memory) - (std::uintptr_t{1} << 30);
}

}  // namespace

unsigned char* dynamic_shared() { return dynamic_memory[rank()]; }
std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(p) - shared_begin());
}
char* shared_pointer(std::uint32_t address) { return reinterpret_cast<char*>(shared_begin() + address); }
std::uint32_t address_of(unsigned other, std::uint32_t address) {
  const std::uint32_t offset = address - shared_address(dynamic_shared());
  if (other >= machine.cluster.size() || offset >= kDynamicBytes) {
    throw std::runtime_error("emulation: no such place in the cluster's dynamic memory");
  }
  if (machine.cluster_phase == 0) throw std::runtime_error("emulation: that block may not have begun");
  const auto its = fibers().subspan(other * machine.threads, machine.threads);
  if (std::ranges::all_of(its, &Fiber::done)) throw std::runtime_error("emulation: that block has ended");
  return shared_address(dynamic_memory[other]) + offset;
}

void run(const Launch& launch, const std::function<void()>& kernel) {
  if (launch.threads == 0 || launch.threads % 32 != 0 || launch.threads > kMostThreads) {
    throw std::invalid_argument("emulation: threads must be a multiple of 32, at most 1024");
  }
  if (launch.cluster == 0 || launch.cluster > kMostCluster || launch.blocks.size() % launch.cluster != 0) {
    throw std::invalid_argument("emulation: clusters are of 1 to 4 blocks, and the blocks whole clusters");
  }
  machine.kernel = kernel;
  machine.error = nullptr;
  machine.threads = launch.threads;
  machine.blocks = static_cast<unsigned>(launch.blocks.size());
  std::mt19937_64 random(launch.seed);
  machine.copy_order.seed(launch.seed);
  machine.seed = launch.seed;
  for (std::size_t i = 0; i < launch.blocks.size(); i += launch.cluster) {
    machine.cluster = std::span(launch.blocks).subspan(i, launch.cluster);
    run_cluster(random);
  }
}

unsigned thread() { return machine.fiber % machine.threads; }
unsigned rank() { return machine.fiber / machine.threads; }
unsigned block() { return machine.cluster[rank()]; }
unsigned blocks() { return machine.blocks; }
unsigned threads() { return machine.threads; }

void give_way() { swapcontext(&mine().context, &machine.scheduler); }

void exchange(const Words& mine, Words (&all)[32]) {
  Exchange& warp = machine.warps[machine.fiber / 32];
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

void arrive_at(int which, unsigned threads) {
  Barrier& barrier = machine.barriers[rank()][which];
  machine.moved = true;
  if (barrier.arrived == 0) barrier.threads = threads;
  if (barrier.threads != threads) {
    throw std::runtime_error("emulation: threads of a named barrier do not agree how many they are");
  }
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.generation;
  }
}
void meet(int which, unsigned threads) {
  const Barrier& barrier = machine.barriers[rank()][which];
  const unsigned generation = barrier.generation;
  arrive_at(which, threads);
  while (barrier.generation == generation) give_way();
}
void meet_all() { meet(0, machine.threads); }

void arrive_at_cluster() {
  if (mine().arrived) throw std::runtime_error("emulation: a thread arrives twice at its cluster's barrier");
  mine().arrived = machine.moved = true;
  mine().arrival = machine.cluster_phase;
  settle_cluster();
}
void wait_for_cluster() {
  while (machine.cluster_phase == mine().arrival) give_way();
}

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

void note(Access access, std::uint32_t address, std::uint32_t bytes) {
  if (machine.counted.empty()) return;  // no copy engine is at work
  mine().noted.push_back({access, address, address + bytes});
}
void fence() { mine().noted.clear(); }
void overwrite(std::uint32_t address, std::uint32_t bytes) {
  if (any_noted(address, bytes, [](Access) { return true; })) {
    throw std::runtime_error("emulation: the copy engine writes where a thread's access has had no fence");
  }
}
void read_back(std::uint32_t address, std::uint32_t bytes) {
  if (any_noted(address, bytes, [](Access access) { return access == Access::store; })) {
    throw std::runtime_error("emulation: the copy engine reads what a thread stored without a fence");
  }
}

void copy_by_thread(std::function<void()> copy) { now_or_later(mine().copies, std::move(copy)); }
void end_group() { mine().copies.emplace_back(); }
void wait_for_groups(unsigned pending) { finish_groups(mine().copies, pending); }

void store_by_thread(std::function<void()> store) { now_or_later(mine().stores, std::move(store)); }
void end_store_group() { mine().stores.emplace_back(); }
void wait_for_store_groups(unsigned pending) { finish_groups(mine().stores, pending); }

void start_product(std::function<void()> product) {
  Fiber& f = mine();
  const bool at_once = (machine.seed + ++f.products_started) * 0x9e3779b97f4a7c15U >> 63 == 0;
  if (!any_in(f.products) && at_once) return product();
  f.products.back().push_back(std::move(product));
}
void end_product_group() { mine().products.emplace_back(); }
void wait_for_product_groups(unsigned pending) { finish_groups(mine().products, pending); }

}  // namespace braid::test::emulation
