// Loops over the threads of the cpu State (OpenMP). The contract that keeps results independent of the
// thread count: a task's result depends on its index alone; partial sums belong to tasks, never to threads.
#pragma once
#include <algorithm>
#include <type_traits>

#include "braid/backends/cpu/state.h"

namespace braid::cpu {

using TaskFunction = void (*)(void* closure, std::int64_t task, int thread);

// Which thread gets which task: equal consecutive shares, or the next task to whoever is free (for tasks of
// unequal size).
enum class Schedule : std::uint8_t { shares, next_free };

void run_tasks(int threads, std::int64_t tasks, Schedule schedule, TaskFunction fn, void* closure);

// Calls fn(task) or fn(task, thread) for every task in [0, tasks), thread < state_of(ctx).threads. fn must
// not throw, and must not call parallel_for.
template <class F>
void parallel_for(const Context& ctx, std::int64_t tasks, F&& fn, Schedule schedule = Schedule::shares) {
  using Fn = std::remove_reference_t<F>;
  run_tasks(
      state_of(ctx).threads, tasks, schedule,
      [](void* closure, std::int64_t task, int thread) {
        if constexpr (std::is_invocable_v<Fn&, std::int64_t, int>) {
          (*static_cast<Fn*>(closure))(task, thread);
        } else {
          (*static_cast<Fn*>(closure))(task);
        }
      },
      const_cast<void*>(static_cast<const void*>(&fn)));
}

// Splits [0, count) into blocks of `block` and calls fn(begin, end) for each.
template <class F>
void parallel_blocks(const Context& ctx, std::int64_t count, std::int64_t block, F&& fn) {
  parallel_for(ctx, (count + block - 1) / block,
               [&](std::int64_t task) { fn(task * block, std::min(count, (task + 1) * block)); });
}

}  // namespace braid::cpu
