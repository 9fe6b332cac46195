// Runs one piece of op code on several backends and compares what comes out.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "braid/backends/backends.h"
#include "tests/support/comparator.h"
#include "tests/support/tensors.h"

namespace braid::test {

// A Context with everything it points to.
class TestContext {
 public:
  explicit TestContext(Backend backend);
  Context& operator*() { return context_; }
  Context* operator->() { return &context_; }
  const Backend& backend() const { return *backend_; }
  void forget_peak() { *scratch_ = Arena(*memory_); }

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Buffer> memory_;
  std::unique_ptr<Arena> scratch_;
  Context context_;
};

TestContext reference_context();
TestContext cpu_context(int threads = 1, Arithmetic arithmetic = Arithmetic::fast,
                        const std::string& target = {});
// One for the whole process: its library handles and plans take long to make.
TestContext& cuda_context();
// Whether the environment says BRAID_TEST_BACKEND=cuda: then that backend is tested in place of the cpu's.
bool testing_cuda();

// One run of some ops on one backend. Inputs come from `tensors`; what is to be compared is passed to
// result().
struct Trial {
  struct Result {
    std::string name;
    ConstTensor tensor;
    Tolerance tolerance;
  };

  Context& ctx;
  DType dtype;  // of activations: f64 or f32 on the reference, f32 on the cpu backend, f32 or bf16 on cuda
  TestTensors tensors;
  std::vector<Result> results{};
  // Set by a run whose sums a library may cut by the number of threads (ARCHITECTURE.md, "One arithmetic").
  bool fast_bits_depend_on_threads = false;

  DType accumulator() const { return accumulator_of(dtype); }
  // bf16 weights go with f32 activations; in f64 they keep the values that bf16 gave them.
  DType weight_dtype(DType rounded_to) const { return dtype == DType::f64 ? DType::f64 : rounded_to; }
  void result(std::string name, const ConstTensor& tensor, std::int64_t reduction_length = 1) {
    const DType judged = tensor.dtype == DType::bf16 ? DType::bf16 : DType::f32;
    results.push_back({std::move(name), tensor, tolerance_for(judged, reduction_length)});
  }
  void result(std::string name, const ConstTensor& tensor, Tolerance tolerance) {
    results.push_back({std::move(name), tensor, tolerance});
  }
};

using Run = std::function<void(Trial&)>;

// Inputs are rounded to `rounding` whatever the dtype that holds them. Results end up in host memory.
Trial run_on(TestContext& context, DType dtype, std::uint64_t seed, const Run& run,
             DType rounding = DType::f32);

// Judges the cpu backend (f32, fast and strict) by the reference in f64, whose own f32 results are judged the
// same way. One and two threads must agree in every bit (but where the run says otherwise: then two runs with
// two), and a dry run must need exactly the scratch memory that the real one did. With testing_cuda(): the
// cuda backend in f32 and in bf16, two runs agreeing in every bit.
void expect_backends_agree(std::string_view what, const Run& run, std::uint64_t seed = 1);

// Compares result by result, by the tolerances of `got`.
void expect_results_close(const Trial& got, const Trial& want, std::string_view what);
void expect_results_same(const Trial& got, const Trial& want, std::string_view what);

// "lengths 1 0 17"
std::string lengths_text(const std::vector<std::int64_t>& lengths);

}  // namespace braid::test
