// Experiments on the GPU: recorded or not, alone or beside others, killed or not, they leave the same bytes.
#include "braid/lab/experiment/experiment_run.h"
#include "tests/lab/small_experiment.h"
#include "tests/support/files.h"
#include "tests/support/trial.h"

namespace braid::test {
namespace {

using namespace lab;
namespace fs = std::filesystem;

struct Killed {};

// Wide enough for the tensor cores, and long enough that every size of batch is replayed.
Experiment experiment(const fs::path& folder) {
  auto text = small_experiment_text(folder / "lab");
  for (const auto& [from, to] :
       {std::pair{"hidden_size = 16", "hidden_size = 64"},
        {"linear_key_dim = 8", "linear_key_dim = 32"},
        {"linear_value_dim = 8", "linear_value_dim = 64"},
        {"steps = 12", "steps = 24"},
        {"n = 4\nreveal", "n = 40\nreveal"},
        {"form = \"tokens\"", "form = \"code\""},
        {"reveals = \"fixed\"", "reveals = \"powers-of-two\"\nwithout_reveals = 0.3"},
        {"reveal_spacing = 1\n", ""},
        {"reveal_spacing = 2\n", ""}}) {
    text = changed(text, from, to);
  }
  return parse_experiment(text, "small.toml");
}

std::vector<Backend> backends(int count, bool recording = true) {
  std::vector<Backend> all;
  for (int i = 0; i < count; ++i) {
    all.push_back(make_backend("cuda"));
    if (!recording) all.back().record = {};
  }
  return all;
}

std::string unbroken(int jobs, bool recording) {
  const TemporaryFolder folder;
  const auto e = experiment(folder.path());
  EXPECT_EQ(run_experiment(backends(jobs, recording), e), RunOutcome::finished);
  return results_of(e);
}

TEST(GpuLab, RecordedBesideOthersOrKilledTheResultsAreTheSameBytes) {
  const auto whole = unbroken(1, false);
  EXPECT_EQ(unbroken(1, true), whole) << "recorded";
  EXPECT_EQ(unbroken(2, true), whole) << "two at a time";
  const TemporaryFolder folder;
  const auto e = experiment(folder.path());
  int attempts = 0, asked = 0;
  for (bool done = false; !done && attempts < 20; ++attempts) {
    GridObserver observer;
    asked = 0;
    observer.stop_requested = [&] { return ++asked > 5 + attempts; };
    done = run_experiment(backends(1), e, observer) == RunOutcome::finished;
  }
  EXPECT_GT(attempts, 3);
  EXPECT_EQ(results_of(e), whole) << "stopped between checks";
}

}  // namespace
}  // namespace braid::test
