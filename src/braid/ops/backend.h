// A backend as the layers above see it: its ops, the do-nothing twin that measures, and its private state.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "braid/ops/op_table.h"

namespace braid {

// Device work that was recorded once: replay() does it again on whatever the same memory holds by then.
struct Recording {
  virtual ~Recording() = default;
  virtual void replay() = 0;
};

// What the arithmetic had to bend, counted since the backend was made.
struct NumericalEvents {
  std::uint64_t saturated = 0;  // values clamped to the range of a narrower type
};

struct Backend {
  std::string name;
  std::string description;  // what the bits of a result may depend on: "cpu, 2 threads, AVX3, fast"
  Device device = Device::cpu;
  OpTable ops;
  OpTable dry;  // makes the scratch that `ops` would make, and nothing else
  std::shared_ptr<BackendState> state;
  Arithmetic arithmetic = Arithmetic::fast;
  std::shared_ptr<Memory> memory = host_memory();
  // Records what `work` gives to the device, without doing it. Empty: this backend cannot.
  std::function<std::unique_ptr<Recording>(const std::function<void()>& work)> record{};

  // Reads the counts, waiting for the device. Empty: nothing is ever bent.
  std::function<NumericalEvents()> count_events{};

  NumericalEvents numerical_events() const { return count_events ? count_events() : NumericalEvents{}; }
  Context context(Arena& scratch) const {
    return {device, &ops, &scratch, state.get(), arithmetic, memory.get(), Fetch::in_turn};
  }
  Context measuring_context(Arena& scratch) const {
    return {Device::dry, &dry, &scratch, state.get(), arithmetic, nullptr, Fetch::in_turn};
  }
  // Activations that go with matrices of this dtype: a CPU computes in f32 (f64) whatever the matrices are
  // kept in.
  DType activation_dtype(DType matrix) const {
    return device == Device::cuda || matrix == DType::f64 ? matrix : DType::f32;
  }
};

// Work that launches the same on the same memory each time: recorded on its second time, since libraries make
// their plans on the first, and replayed from then on. Where the backend cannot record, it is done each time.
class RepeatedWork {
 public:
  template <class Work>
  void run(const Backend& backend, Work&& work) {
    if (!backend.record || !done_) {
      done_ = true;
      return work();
    }
    if (recording_ == nullptr) recording_ = backend.record(work);
    recording_->replay();
  }

 private:
  bool done_ = false;
  std::unique_ptr<Recording> recording_;
};

// Bytes of scratch that fn(Context&) needs on this backend, found by running it dry.
template <class Fn>
std::size_t measure_scratch(const Backend& backend, Fn&& fn) {
  Arena scratch = Arena::measuring();
  Context ctx = backend.measuring_context(scratch);
  fn(ctx);
  return scratch.peak();
}

}  // namespace braid
