#include "braid/backends/cpu/parallel.h"

#include <omp.h>

namespace braid::cpu {

void run_tasks(int threads, std::int64_t tasks, Schedule schedule, TaskFunction fn, void* closure) {
  const int team = static_cast<int>(std::min<std::int64_t>(threads, tasks));
  if (team <= 1) {
    for (std::int64_t task = 0; task < tasks; ++task) fn(closure, task, 0);
    return;
  }
  if (schedule == Schedule::shares) {
#pragma omp parallel for schedule(static) num_threads(team)
    for (std::int64_t task = 0; task < tasks; ++task) fn(closure, task, omp_get_thread_num());
  } else {
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (std::int64_t task = 0; task < tasks; ++task) fn(closure, task, omp_get_thread_num());
  }
}

}  // namespace braid::cpu
