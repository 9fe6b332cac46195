#include "tests/support/trial.h"

namespace braid::test {
namespace {

constexpr std::size_t kScratchBytes = std::size_t{1} << 30;  // reserved, backed only where touched

// Scratch bytes of the cpu backend as the dry backend measures them: every tensor null.
std::size_t dry_peak(BackendState* state, Arithmetic arithmetic, std::uint64_t seed, const Run& run) {
  const OpTable ops = dry::op_table(cpu::scratch_table());
  Arena scratch = Arena::measuring();
  Context ctx{Device::dry, &ops, &scratch, state, arithmetic};
  Trial trial{ctx, DType::f32, TestTensors(seed, DType::f32, Contents::null)};
  run(trial);
  return scratch.peak();
}

}  // namespace

TestContext::TestContext(const OpTable* ops, std::unique_ptr<BackendState> state, Arithmetic arithmetic)
    : state_(std::move(state)),
      memory_(std::make_unique<Buffer>(kScratchBytes)),
      scratch_(std::make_unique<Arena>(*memory_)),
      context_{Device::cpu, ops, scratch_.get(), state_.get(), arithmetic} {}

TestContext reference_context() { return {reference::op_table(), nullptr, Arithmetic::fast}; }

TestContext cpu_context(int threads, Arithmetic arithmetic, const std::string& target) {
  return {cpu::op_table(), cpu::make_state({.threads = threads, .target = target}), arithmetic};
}

Trial run_on(TestContext& context, DType dtype, std::uint64_t seed, const Run& run) {
  Trial trial{*context, dtype, TestTensors(seed)};
  run(trial);
  EXPECT_EQ(context->scratch->used(), 0u) << "scratch memory was not given back";
  return trial;
}

void expect_backends_agree(std::string_view what, const Run& run, std::uint64_t seed) {
  const std::string name = fmt::format("{}, seed {}", what, seed);
  SCOPED_TRACE(name);
  TestContext reference = reference_context();
  const Trial want = run_on(reference, DType::f64, seed, run);
  EXPECT_FALSE(want.results.empty()) << "nothing to compare";
  expect_results_close(run_on(reference, DType::f32, seed, run), want, "reference f32, " + name);

  for (const auto arithmetic : {Arithmetic::fast, Arithmetic::strict}) {
    const std::string on =
        fmt::format("cpu {}, {}", arithmetic == Arithmetic::fast ? "fast" : "strict", name);
    TestContext one = cpu_context(1, arithmetic), two = cpu_context(2, arithmetic);
    const Trial got = run_on(one, DType::f32, seed, run);
    expect_results_close(got, want, on);
    const Trial got_two = run_on(two, DType::f32, seed, run);
    expect_results_same(got_two, got, "2 threads against 1, " + on);
    EXPECT_EQ(dry_peak(one->state, arithmetic, seed, run), one->scratch->peak()) << "dry scratch, " << on;
    EXPECT_EQ(dry_peak(two->state, arithmetic, seed, run), two->scratch->peak()) << "dry scratch, " << on;
  }
}

void expect_results_close(const Trial& got, const Trial& want, std::string_view what) {
  ASSERT_EQ(got.results.size(), want.results.size()) << what;
  for (std::size_t i = 0; i < want.results.size(); ++i) {
    const auto& w = want.results[i];
    expect_close(got.results[i].tensor, w.tensor, w.tolerance, fmt::format("{}: {}", what, w.name));
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
