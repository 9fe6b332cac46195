#include "tests/support/trial.h"

#include <cstdio>
#include <cstdlib>

namespace braid::test {
namespace {

constexpr std::size_t kScratchBytes = std::size_t{1} << 30;  // on the host backed only where touched

// Scratch bytes as the dry backend measures them: every tensor null.
std::size_t dry_peak(const Backend& backend, DType dtype, std::uint64_t seed, const Run& run) {
  Arena scratch = Arena::measuring();
  Context ctx = backend.measuring_context(scratch);
  Trial trial{ctx, dtype, TestTensors(seed, DType::f32, Contents::null)};
  run(trial);
  return scratch.peak();
}

void expect_cpu_agrees(std::string_view name, const Run& run, std::uint64_t seed, const Trial& want) {
  for (const auto arithmetic : {Arithmetic::fast, Arithmetic::strict}) {
    const std::string on =
        fmt::format("cpu {}, {}", arithmetic == Arithmetic::fast ? "fast" : "strict", name);
    TestContext one = cpu_context(1, arithmetic), two = cpu_context(2, arithmetic);
    const Trial got = run_on(one, DType::f32, seed, run);
    expect_results_close(got, want, on);
    const Trial got_two = run_on(two, DType::f32, seed, run);
    if (arithmetic == Arithmetic::fast && got.fast_bits_depend_on_threads) {
      expect_results_close(got_two, want, "2 threads, " + on);
      expect_results_same(run_on(two, DType::f32, seed, run), got_two, "again, " + on);
    } else {
      expect_results_same(got_two, got, "2 threads against 1, " + on);
    }
    EXPECT_EQ(dry_peak(one.backend(), DType::f32, seed, run), one->scratch->peak()) << "dry scratch, " << on;
    EXPECT_EQ(dry_peak(two.backend(), DType::f32, seed, run), two->scratch->peak()) << "dry scratch, " << on;
  }
}

// BRAID_TEST_DTYPE=bf16, or f32: that one alone, so that tools which fail beside a library's kernels can look
// at ours where only the other dtype takes the library.
std::vector<DType> cuda_dtypes() {
  const char* text = std::getenv("BRAID_TEST_DTYPE");
  if (text == nullptr) return {DType::f32, DType::bf16};
  const std::string_view name = text;
  require(name == "f32" || name == "bf16", "BRAID_TEST_DTYPE is '{}': expected f32 or bf16", name);
  return {name == "f32" ? DType::f32 : DType::bf16};
}

void expect_cuda_agrees(std::string_view name, const Run& run, std::uint64_t seed) {
  static const std::vector<DType> dtypes = cuda_dtypes();
  TestContext reference = reference_context();
  TestContext& cuda = cuda_context();
  for (const DType dtype : dtypes) {
    const std::string on = fmt::format("cuda {}, {}", name_of(dtype), name);
    const Trial want = run_on(reference, DType::f64, seed, run, dtype);
    cuda.forget_peak();
    const Trial got = run_on(cuda, dtype, seed, run, dtype);
    expect_results_close(got, want, on);
    EXPECT_EQ(dry_peak(cuda.backend(), dtype, seed, run), cuda->scratch->peak()) << "dry scratch, " << on;
    expect_results_same(run_on(cuda, dtype, seed, run, dtype), got, "again, " + on);
  }
}

// BRAID_TEST_PART=2/8: of the comparisons that a process is asked for, the second of every eight alone, so
// that tools which make kernels a thousand times slower can share out one test over several processes.
struct Part {
  std::int64_t which = 1, of = 1;

  Part() {
    const char* text = std::getenv("BRAID_TEST_PART");
    if (text == nullptr) return;
    int read = 0;
    const bool whole = std::sscanf(text, "%ld/%ld%n", &which, &of, &read) == 2 && text[read] == '\0';
    require(whole && which >= 1 && which <= of,
            "BRAID_TEST_PART is '{}': expected a part and how many there are, as 2/8", text);
    fmt::print(stderr, "of all comparisons only part {} of {} is made\n", which, of);
  }
};
bool is_in_part() {
  static const Part part;
  static std::int64_t asked = 0;
  return asked++ % part.of == part.which - 1;
}

}  // namespace

TestContext::TestContext(Backend backend)
    : backend_(std::make_unique<Backend>(std::move(backend))),
      memory_(std::make_unique<Buffer>(kScratchBytes, backend_->memory)),
      scratch_(std::make_unique<Arena>(*memory_)),
      context_(backend_->context(*scratch_)) {}

TestContext reference_context() { return TestContext(make_backend("reference")); }

TestContext cpu_context(int threads, Arithmetic arithmetic, const std::string& target) {
  return TestContext(make_backend("cpu", {.threads = threads, .target = target}, arithmetic));
}

TestContext& cuda_context() {
  static TestContext context(make_backend("cuda"));
  return context;
}

bool testing_cuda() {
  const char* name = std::getenv("BRAID_TEST_BACKEND");
  const std::string_view backend = name == nullptr ? "cpu" : name;
  require(backend == "cpu" || backend == "cuda", "BRAID_TEST_BACKEND is '{}': expected cpu or cuda", backend);
  return backend == "cuda";
}

Trial run_on(TestContext& context, DType dtype, std::uint64_t seed, const Run& run, DType rounding) {
  Trial trial{*context, dtype, TestTensors(seed, rounding, Contents::real, context.backend().memory)};
  run(trial);
  for (auto& result : trial.results) result.tensor = trial.tensors.on_host(result.tensor);
  EXPECT_EQ(context->scratch->used(), 0u) << "scratch memory was not given back";
  return trial;
}

void expect_backends_agree(std::string_view what, const Run& run, std::uint64_t seed) {
  if (!is_in_part()) return;
  const std::string name = fmt::format("{}, seed {}", what, seed);
  SCOPED_TRACE(name);
  if (testing_cuda()) return expect_cuda_agrees(name, run, seed);
  TestContext reference = reference_context();
  const Trial want = run_on(reference, DType::f64, seed, run);
  EXPECT_FALSE(want.results.empty()) << "nothing to compare";
  expect_results_close(run_on(reference, DType::f32, seed, run), want, "reference f32, " + name);
  expect_cpu_agrees(name, run, seed, want);
}

void expect_results_close(const Trial& got, const Trial& want, std::string_view what) {
  ASSERT_EQ(got.results.size(), want.results.size()) << what;
  for (std::size_t i = 0; i < want.results.size(); ++i) {
    const auto& g = got.results[i];
    expect_close(g.tensor, want.results[i].tensor, g.tolerance, fmt::format("{}: {}", what, g.name));
  }
}

void expect_results_same(const Trial& got, const Trial& want, std::string_view what) {
  ASSERT_EQ(got.results.size(), want.results.size()) << what;
  for (std::size_t i = 0; i < want.results.size(); ++i) {
    const auto& w = want.results[i];
    expect_same(got.results[i].tensor, w.tensor, fmt::format("{}: {}", what, w.name));
  }
}

std::string lengths_text(const std::vector<std::int64_t>& lengths) {
  return fmt::format("lengths {}", fmt::join(lengths, " "));
}

}  // namespace braid::test
