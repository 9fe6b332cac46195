// Whole experiments: what they leave, killed or not, and the report of it.
#include "braid/lab/experiment/experiment_run.h"

#include <gtest/gtest.h>

#include <map>

#include "braid/backends/backends.h"
#include "braid/lab/report/intervals.h"
#include "braid/lab/report/lab_page.h"
#include "braid/lab/report/paper_results.h"
#include "braid/train/checkpoint.h"
#include "tests/lab/small_experiment.h"
#include "tests/support/files.h"

namespace braid::test {
namespace {

using namespace lab;
namespace fs = std::filesystem;

struct Killed {};

std::vector<Backend> backends(int count) {
  std::vector<Backend> all;
  for (int i = 0; i < count; ++i) {
    all.push_back(make_backend("cpu", {.threads = 1, .target = {}}, Arithmetic::strict));
  }
  return all;
}

Experiment small(const fs::path& folder) {
  return parse_experiment(small_experiment_text(folder / "lab"), "small.toml");
}

std::string unbroken() {
  const TemporaryFolder folder;
  const auto e = small(folder.path());
  EXPECT_EQ(run_experiment(backends(1), e), RunOutcome::finished);
  return results_of(e);
}

TEST(ExperimentRun, IsTheSameWithSeveralJobs) {
  const TemporaryFolder folder;
  const auto e = small(folder.path());
  run_experiment(backends(2), e);
  EXPECT_EQ(results_of(e), unbroken());
}

TEST(ExperimentRun, KilledAfterAnyCheckItEndsTheSame) {
  const auto whole = unbroken();
  const TemporaryFolder folder;
  const auto e = small(folder.path());
  // Each attempt dies at its first check, which has its checkpoint, so that each goes three steps further.
  int attempts = 0;
  for (bool done = false; !done && attempts < 20; ++attempts) {
    GridObserver observer;
    observer.progressed = [&](const GridProgress& p) {
      if (!p.running.empty() && p.running[0].progress.steps != 0) throw Killed{};
    };
    try {
      done = run_experiment(backends(1), e, observer) == RunOutcome::finished;
    } catch (const Killed&) {
    }
  }
  EXPECT_EQ(attempts, 9);  // four checks of each of two runs
  EXPECT_EQ(results_of(e), whole);
}

TEST(ExperimentRun, StoppedBetweenChecksItEndsTheSame) {
  const TemporaryFolder folder;
  const auto e = small(folder.path());
  for (int most = 1; most < 60; most += 7) {
    int asked = 0;
    GridObserver observer;
    observer.stop_requested = [&] { return ++asked > most; };
    if (run_experiment(backends(1), e, observer) == RunOutcome::finished) break;
  }
  EXPECT_EQ(results_of(e), unbroken());
}

// Twelve of 24 steps answer as twelve of twelve do, and nothing in the folder changes.
TEST(ExperimentRun, ACheckpointIsEvaluated) {
  const TemporaryFolder folder;
  auto text = changed(small_experiment_text(folder / "whole"), "\"cosine\"", "\"constant\"");
  const auto whole = parse_experiment(text, "whole.toml");
  run_experiment(backends(1), whole);
  text = changed(changed(text, (folder / "whole").string(), (folder / "half").string()), "steps = 12",
                 "steps = 24");
  const auto half = parse_experiment(text, "half.toml");
  GridObserver observer;
  observer.stop_requested = [asked = 0]() mutable { return ++asked > 13; };  // once before the run itself
  EXPECT_EQ(run_experiment(backends(1), half, observer), RunOutcome::stopped);

  const auto files = [&] {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(half.folder)) {
      if (entry.is_regular_file()) all[entry.path().string()] = io::read_file(entry.path());
    }
    return all;
  };
  const auto before = files();
  const auto store = read_store(half.folder), of_whole = read_store(whole.folder);
  ASSERT_EQ(store.runs.size(), 1U);
  ASSERT_FALSE(store.runs[0].result);
  const auto& spec = store.runs[0].spec;
  const auto run = half.folder / "runs" / spec.name();
  std::string notices;
  const auto notice = [&](const std::string& line) { notices += line; };
  const auto evaluated = [&](const fs::path& from) {
    return evaluate_checkpoint(backends(1)[0], half, spec, from, notice);
  };
  const auto result = evaluated(run), &want = *of_whole.runs[0].result;
  EXPECT_EQ(result.steps, 12);
  EXPECT_EQ(result.last_n, want.last_n);
  EXPECT_EQ(result.loss, want.loss);
  EXPECT_EQ(result.lengths, want.lengths);
  EXPECT_EQ(files(), before);
  EXPECT_EQ(notices, "");
  EXPECT_HOLDS(message_of([&] { evaluated(whole.folder); }), "neither a run");
  std::vector<train::DamagedCheckpoint> damaged;
  const auto newest = train::list_checkpoints(run / "checkpoints", damaged).at(0).path;
  fs::copy(newest, run / "checkpoints/step_00000013", fs::copy_options::recursive);
  fs::resize_file(run / "checkpoints/step_00000013/model.safetensors", 100);
  EXPECT_EQ(evaluated(run).lengths, want.lengths);
  EXPECT_HOLDS(notices, "passed over a damaged checkpoint");
}

TEST(ExperimentRun, FinishedRunsAreNotMadeAgain) {
  const TemporaryFolder folder;
  const auto e = small(folder.path());
  run_experiment(backends(1), e);
  const auto before = fs::last_write_time(e.folder / "runs" / e.runs()[0].name() / "result.json");
  int checks = 0;
  GridObserver observer;
  observer.progressed = [&](const GridProgress& p) { checks += static_cast<int>(p.running.size()); };
  run_experiment(backends(1), e, observer);
  EXPECT_EQ(checks, 0);
  EXPECT_EQ(fs::last_write_time(e.folder / "runs" / e.runs()[0].name() / "result.json"), before);
}

TEST(ExperimentRun, ADamagedCheckpointMeansFromTheStart) {
  const TemporaryFolder folder;
  const auto e = small(folder.path());
  GridObserver observer;
  observer.progressed = [&](const GridProgress& p) {
    if (!p.running.empty() && p.running[0].progress.check.step == 6) throw Killed{};
  };
  EXPECT_THROW(run_experiment(backends(1), e, observer), Killed);
  const auto checkpoints = e.folder / "runs" / e.runs()[0].name() / "checkpoints";
  std::size_t cut = 0;
  for (const auto& entry : fs::recursive_directory_iterator(checkpoints)) {
    if (entry.path().filename() != "optimizer.safetensors") continue;
    fs::resize_file(entry.path(), fs::file_size(entry.path()) - 4);
    ++cut;
  }
  EXPECT_GE(cut, 1U);
  std::string notices;
  GridObserver again;
  again.noticed = [&](const std::string& line) { notices += line; };
  run_experiment(backends(1), e, again);
  EXPECT_HOLDS(notices, "passed over a damaged checkpoint");
  EXPECT_EQ(results_of(e), unbroken());
}

TEST(ExperimentRun, ADivergedRunIsAResult) {
  const TemporaryFolder folder;
  auto text =
      changed(small_experiment_text(folder / "lab"), "learning_rates = [0.01]", "learning_rates = [10]");
  text = changed(text, "warmup_steps = 2", "warmup_steps = 0");
  text += "[optimizer]\nmax_gradient_norm = 0\nweight_decay = 1000\n";
  const auto e = parse_experiment(text, "small.toml");
  EXPECT_EQ(run_experiment(backends(1), e), RunOutcome::finished);
  const auto store = read_store(e.folder);
  ASSERT_TRUE(store.runs[0].result);
  EXPECT_HOLDS(store.runs[0].result->failure, "finite");
  EXPECT_HOLDS(text_table(store), "gdn-negative");
  EXPECT_HOLDS(render_lab_page({store}), "finite");
}

TEST(ExperimentRun, AnotherExperimentDoesNotMixWithIt) {
  const TemporaryFolder folder;
  const auto e = small(folder.path());
  run_experiment(backends(1), e);
  const auto text = small_experiment_text(folder / "lab");
  const auto again = [&](std::string_view from, std::string_view to) {
    return parse_experiment(changed(text, from, to), "small.toml");
  };
  EXPECT_HOLDS(message_of([&] { run_experiment(backends(1), again("batch_size = 4", "batch_size = 8")); }),
               "train.batch_size = 4, here it is 8");
  EXPECT_HOLDS(message_of([&] { run_experiment(backends(1), again("lengths = [2, 4]", "lengths = [2]")); }),
               "evaluation.lengths");
  EXPECT_HOLDS(message_of([&] { run_experiment(backends(1), again("n = 2", "n = 3")); }), "stage");
  EXPECT_EQ(run_experiment(backends(1), again("\"gdn-negative\", ", "")), RunOutcome::finished);
  EXPECT_EQ(read_store(e.folder).runs.size(), 2U);
}

TEST(LabReport, PageHoldsRunsPaperAndConfiguration) {
  const TemporaryFolder folder;
  const auto e = small(folder.path());
  run_experiment(backends(1), e);
  const auto store = read_store(e.folder);
  const auto data = lab_page_data({store}, {});
  const auto& experiment = data["experiments"][0];
  EXPECT_EQ(experiment["planned"], 2);
  const auto& architecture = experiment["architectures"][0];
  EXPECT_EQ(architecture["name"], "transformer");
  EXPECT_EQ(architecture["paper"][1], 0.512);
  EXPECT_EQ(architecture["runs"][0]["lengths"].size(), 2U);
  EXPECT_EQ(architecture["runs"][0]["curves"]["step"].size(), 4U);
  const auto page = render_lab_page({store});
  EXPECT_HOLDS(page, "gdn-negative_lr0.01_cosine_seed1");
  EXPECT_EQ(page.find("{{"), page.npos);
  for (const auto* network : {"http://", "https://", "src=", "@import"}) {
    auto rest = page;  // the namespace of SVG is no address
    for (std::size_t at; (at = rest.find("http://www.w3.org/")) != rest.npos;) rest.erase(at, 18);
    EXPECT_EQ(rest.find(network), rest.npos) << network;
  }
}

TEST(LabReport, BestIsPickedAtTheGreatestLength) {
  const auto result = [](std::int64_t at4, std::int64_t at8) {
    RunResult r;
    r.lengths = {{4, at4, 10}, {8, at8, 10}};
    return r;
  };
  EXPECT_TRUE(better(result(1, 6), result(9, 5)));
  EXPECT_TRUE(better(result(3, 5), result(2, 5)));
  EXPECT_FALSE(better(result(2, 5), result(2, 5)));
}

// Published values: Wilson for 0, 10 and 15 of 20 and 148; Newcombe's case 56/70 − 48/80 by method 10.
TEST(LabReport, IntervalsAreTheKnownOnes) {
  EXPECT_NEAR(wilson(0, 20).high, 0.1611, 1e-4);
  EXPECT_NEAR(wilson(15, 148).low, 0.0624, 1e-4);
  EXPECT_NEAR(wilson(15, 148).high, 0.1605, 1e-4);
  EXPECT_NEAR(difference(56, 70, 48, 80).low, 0.0524, 1e-4);
  EXPECT_NEAR(difference(56, 70, 48, 80).high, 0.3339, 1e-4);
  EXPECT_EQ(wilson(256, 256).high, 1);
}

TEST(LabReport, PaperFiguresAreKnownByProblemAndLength) {
  EXPECT_EQ(paper_accuracy("swaps", Architecture::hybrid_positive, 128), 0.363);
  EXPECT_EQ(paper_accuracy("state_based_recall", Architecture::gdn_positive, 4), 0.770);
  EXPECT_FALSE(paper_accuracy("swaps", Architecture::transformer, 7));
  EXPECT_FALSE(paper_accuracy("parity", Architecture::transformer, 8));
}

}  // namespace
}  // namespace braid::test
