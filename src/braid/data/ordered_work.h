// Tasks done by threads, results in the order of the tasks.
#pragma once
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "braid/core/error.h"

namespace braid::data {

// Used by one thread. What bounds the memory is how many tasks it submits before it takes results.
template <class Result>
class OrderedWork {
 public:
  using Task = std::function<Result()>;

  using Start = std::function<std::thread(std::function<void()>)>;

  // Without threads a task runs when its result is asked for. `start`: for tests, of threads that cannot be.
  explicit OrderedWork(int threads, const Start& start = start_thread) {
    require(threads >= 0, "the number of threads is {}, it cannot be negative", threads);
    try {
      for (int i = 0; i < threads; ++i) threads_.push_back(start([this] { work(); }));
    } catch (const std::system_error& error) {
      const auto started = threads_.size();
      stop();  // no destructor will
      fail("only {} of {} threads could be started ({}): ask for fewer workers or loaders", started, threads,
           error.what());
    }
  }
  // Waits for the tasks that run; those that have not begun are dropped.
  ~OrderedWork() { stop(); }
  OrderedWork(const OrderedWork&) = delete;
  OrderedWork& operator=(const OrderedWork&) = delete;

  void submit(Task task) {
    {
      const std::lock_guard lock(mutex_);
      slots_.push_back(std::make_shared<Slot>(std::move(task)));
      waiting_.push_back(slots_.back());
    }
    wake_.notify_one();
  }
  // Tasks whose results were not taken yet.
  std::size_t pending() const { return slots_.size(); }

  // The result of the oldest of them, or what it threw; waits for it.
  Result next() {
    require(!slots_.empty(), "no task is left whose result could be taken");
    const std::shared_ptr<Slot> slot = std::move(slots_.front());
    slots_.pop_front();
    if (threads_.empty()) {
      waiting_.pop_front();
      slot->run();
    } else {
      std::unique_lock lock(mutex_);
      done_.wait(lock, [&] { return slot->done; });
    }
    if (slot->error) std::rethrow_exception(slot->error);
    return *std::move(slot->result);
  }

 private:
  struct Slot {
    explicit Slot(Task t) : task(std::move(t)) {}
    void run() {
      try {
        result.emplace(task());
      } catch (...) {
        error = std::current_exception();
      }
      task = nullptr;  // what it holds goes as soon as it is done
    }
    Task task;
    std::optional<Result> result{};
    std::exception_ptr error{};
    bool done = false;  // guarded by mutex_
  };

  static std::thread start_thread(std::function<void()> work) { return std::thread(std::move(work)); }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
      const std::shared_ptr<Slot> slot = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      slot->run();
      lock.lock();
      slot->done = true;
      done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::deque<std::shared_ptr<Slot>> slots_;    // touched by the owner only
  std::deque<std::shared_ptr<Slot>> waiting_;  // not begun; guarded by mutex_
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace braid::data
