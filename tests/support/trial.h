// Runs one piece of op code on several backends and compares what comes out.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "braid/backends/backends.h"
#include "braid/ops/op_table.h"
#include "tests/support/comparator.h"
#include "tests/support/tensors.h"

namespace braid::test {

// A Context with everything it points to.
class TestContext {
 public:
  TestContext(const OpTable* ops, std::unique_ptr<BackendState> state, Arithmetic arithmetic);
  Context& operator*() { return context_; }
  Context* operator->() { return &context_; }

 private:
  std::unique_ptr<BackendState> state_;
  std::unique_ptr<Buffer> memory_;
  std::unique_ptr<Arena> scratch_;
  Context context_;
};

TestContext reference_context();
TestContext cpu_context(int threads = 1, Arithmetic arithmetic = Arithmetic::fast,
                        const std::string& target = {});

// One run of some ops on one backend. Inputs come from `tensors`; what is to be compared is passed to
// result().
struct Trial {
  struct Result {
    std::string name;
    ConstTensor tensor;
    Tolerance tolerance;
  };

  Context& ctx;
  DType dtype;  // of activations: f64 or f32 on the reference, f32 on the cpu backend
  TestTensors tensors;
  std::vector<Result> results{};

  DType accumulator() const { return accumulator_of(dtype); }
  // bf16 weights go with f32 activations; in f64 they keep the values that bf16 gave them.
  DType weight_dtype(DType rounded_to) const { return dtype == DType::f64 ? DType::f64 : rounded_to; }
  void result(std::string name, const ConstTensor& tensor, std::int64_t reduction_length = 1) {
    results.push_back({std::move(name), tensor, tolerance_for(DType::f32, reduction_length)});
  }
  void result(std::string name, const ConstTensor& tensor, Tolerance tolerance) {
    results.push_back({std::move(name), tensor, tolerance});
  }
};

using Run = std::function<void(Trial&)>;

Trial run_on(TestContext& context, DType dtype, std::uint64_t seed, const Run& run);

// Judges the cpu backend (f32, fast and strict) by the reference in f64, whose own f32 results are judged the
// same way. One and two threads must agree in every bit, and a dry run must need exactly the scratch memory
// that the real one did.
void expect_backends_agree(std::string_view what, const Run& run, std::uint64_t seed = 1);

// Compares result by result.
void expect_results_close(const Trial& got, const Trial& want, std::string_view what);
void expect_results_same(const Trial& got, const Trial& want, std::string_view what);

// "lengths 1 0 17"
std::string lengths_text(const std::vector<std::int64_t>& lengths);

}  // namespace braid::test
