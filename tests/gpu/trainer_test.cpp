// Training on the GPU: two runs of twenty steps agree in every bit, recompute and recording change nothing,
// and a run that was stopped ends as if it had not been.
#include "braid/train/trainer.h"

#include "braid/io/files.h"
#include "braid/train/run.h"
#include "tests/support/files.h"
#include "tests/support/small_models.h"
#include "tests/support/trial.h"

namespace braid::test {
namespace {

struct Trained {
  std::vector<double> losses, norms;
  model::ParameterSet weights;
};

enum class Steps : std::uint8_t { one_by_one, enqueued };

Trained train_twenty(const SmallModel& m, train::Precision precision, train::Recompute recompute,
                     const Backend& backend = cuda_context().backend(), Steps steps = Steps::one_by_one) {
  train::RunConfig config;
  config.model = m.config;
  config.data.sequence_length = 70;
  config.batch_size = 4;
  config.micro_batch_size = 2;
  config.steps = 20;
  config.precision = precision;
  config.recompute = recompute;
  train::Trainer trainer(backend, config);
  model::initialize(trainer.parameters().tree(), m.config, 5, trainer.parameters().memory());
  trainer.parameters_changed();
  const auto layout = model::RowLayout::of(4, 70);
  Trained out;
  for (std::int64_t step = 1; step <= 20; ++step) {
    const auto seed = static_cast<std::uint64_t>(step);
    data::Batch batch{.instances = 4,
                      .sequence_length = 70,
                      .ids = small_ids(280, m.config.vocabulary_size, seed),
                      .targets = small_ids(280, m.config.vocabulary_size, seed + 100),
                      .positions = layout.positions,
                      .segment_offsets = layout.offsets,
                      .predicted = 4 * 69};
    for (std::size_t i = 69; i < 280; i += 70) batch.targets[i] = -1;
    if (steps == Steps::enqueued) {
      trainer.enqueue(batch, step);
      continue;
    }
    const auto result = trainer.step(batch, step);
    out.losses.push_back(result.loss);
    out.norms.push_back(result.gradient_norm);
  }
  if (steps == Steps::enqueued) {
    const auto tally = trainer.tally();
    EXPECT_EQ(tally.steps, 20);
    EXPECT_EQ(tally.failed_step, 0);
    out.losses = {tally.loss_sum, tally.loss};
    out.norms = {tally.gradient_norm};
  }
  out.weights = trainer.parameters().copy_in(host_memory(), m.config);
  return out;
}

TEST(GpuTrainer, TwentyStepsRepeatBitForBit) {
  for (const auto& m : small_models()) {
    for (const auto precision : {train::Precision::f32, train::Precision::bf16}) {
      const auto once = train_twenty(m, precision, train::Recompute::none);
      for (const auto recompute :
           {train::Recompute::none, train::Recompute::block, train::Recompute::automatic}) {
        const auto again = train_twenty(m, precision, recompute);
        EXPECT_EQ(again.losses, once.losses) << m.name;
        EXPECT_EQ(again.norms, once.norms) << m.name;
        expect_same(again.weights.flat(), once.weights.flat(), m.name);
      }
    }
  }
}

TEST(GpuTrainer, RecordedStepsAreTheSameBits) {
  Backend direct = cuda_context().backend();
  ASSERT_TRUE(direct.record);
  direct.record = {};
  for (const auto& m : small_models()) {
    for (const auto precision : {train::Precision::f32, train::Precision::bf16}) {
      const auto once = train_twenty(m, precision, train::Recompute::none, direct);
      const auto recorded = train_twenty(m, precision, train::Recompute::none);
      EXPECT_EQ(recorded.losses, once.losses) << m.name;
      EXPECT_EQ(recorded.norms, once.norms) << m.name;
      expect_same(recorded.weights.flat(), once.weights.flat(), m.name);
    }
  }
}

TEST(GpuTrainer, EnqueuedStepsAreTheSameBits) {
  for (const auto& m : small_models()) {
    const auto precision = train::Precision::bf16;
    const auto once = train_twenty(m, precision, train::Recompute::none);
    const auto ahead =
        train_twenty(m, precision, train::Recompute::none, cuda_context().backend(), Steps::enqueued);
    double sum = 0;
    for (const double loss : once.losses) sum += loss;
    EXPECT_EQ(ahead.losses, (std::vector<double>{sum, once.losses.back()})) << m.name;
    EXPECT_EQ(ahead.norms, std::vector<double>{once.norms.back()}) << m.name;
    expect_same(ahead.weights.flat(), once.weights.flat(), m.name);
  }
}

struct Stop {};

// Six steps with a checkpoint after the third; or as a process does them that is killed after the fourth.
void run_six(const train::RunConfig& config, bool killed, std::vector<std::string>& notices) {
  const Backend backend = make_backend("cuda");
  train::run(backend, config,
             {.started = {},
              .stepped =
                  [&](const train::StepProgress& p) {
                    if (killed && p.step == 4) throw Stop{};
                  },
              .validated = {},
              .noticed = [&](const std::string& line) { notices.push_back(line); }});
}

train::RunConfig run_config(const TemporaryFolder& folder, const std::string& precision) {
  std::string text;
  for (int i = 0; i < 400; ++i) text += fmt::format("line {} of a text to learn from: {}. ", i, i * i % 97);
  const auto name = [&](const char* file) { return (folder / file).string(); };
  put(folder / "text.txt", text);
  put(folder / "recipe.toml",
      fmt::format("[run]\nfolder = \"{}\"\n[data]\ndocuments = [\"{}\"]\nvalidation_fraction = 0\n"
                  "sequence_length = 130\n[model]\nlayers = 4\nhidden_size = 64\nheads = 2\n"
                  "linear_key_dim = 32\nintermediate_size = 96\n[train]\nsteps = 6\nbatch_size = 4\n"
                  "micro_batch_size = 2\nprecision = \"{}\"\n[checkpoint]\nevery = 3\n",
                  name("run"), name("text.txt"), precision));
  return train::read_run_config(folder / "recipe.toml", {});
}

TEST(GpuTrainer, StoppedAndResumedIsUnbroken) {
  for (const auto* precision : {"f32", "bf16"}) {
    std::vector<std::string> results[2], notices[2];
    for (const bool killed : {false, true}) {
      const TemporaryFolder folder;
      const auto config = run_config(folder, precision);
      if (killed) {
        EXPECT_THROW(run_six(config, true, notices[1]), Stop);
      }
      run_six(config, false, notices[killed]);
      for (const auto* file : {"run/metrics.jsonl", "run/model/model.safetensors"}) {
        results[killed].push_back(io::read_file(folder / file));
      }
    }
    EXPECT_EQ(results[1], results[0]) << precision;
    const auto resumed = std::ranges::find(notices[1], "resuming after step 3");
    ASSERT_NE(resumed, notices[1].end());
    for (const auto& line : notices[1]) EXPECT_FALSE(holds(line, "the last bits may differ")) << line;
  }
}

}  // namespace
}  // namespace braid::test
