// The step around the model: which updates are made and counted, what is decayed, how batches may be split.
#include <cstring>

#include "tests/train/trainer_support.h"

namespace braid::test {
namespace {

train::RunConfig skipping() {
  auto config = small_training();
  config.optimizer.kind = train::OptimizerKind::skip_step_adamw;
  config.optimizer.skip.window = 8;
  return config;
}

// Its mean loss is ten times that of the batch.
data::Batch poisoned(data::Batch batch) {
  batch.predicted /= 10;
  return batch;
}

TEST(Trainer, SkipStepWithoutOutliersIsAdamW) {
  SmallTrainer plain(small_training()), skip(skipping());
  for (std::int64_t step = 1; step <= 6; ++step) {
    const auto batch = random_batch(plain.config, 4, static_cast<std::uint64_t>(step % 2));
    EXPECT_EQ(plain.trainer.step(batch, step).loss, skip.trainer.step(batch, step).loss);
  }
  EXPECT_EQ(Snapshot(plain.trainer), Snapshot(skip.trainer));
  EXPECT_EQ(skip.trainer.state().updates, 6);
  EXPECT_EQ(skip.trainer.state().losses.size(), 6u);
  EXPECT_TRUE(plain.trainer.state().losses.empty());
}

TEST(Trainer, APoisonedBatchIsSkippedAndLeavesNoTrace) {
  SmallTrainer with(skipping()), without(skipping());
  const auto good = random_batch(with.config, 4, 1);
  for (std::int64_t step = 1; step <= 5; ++step) {
    EXPECT_FALSE(with.trainer.step(good, step).skipped);
    without.trainer.step(good, step);
  }
  const Snapshot before(with.trainer);
  const auto result = with.trainer.step(poisoned(good), 6);
  EXPECT_TRUE(result.skipped);
  EXPECT_TRUE(result.measured());
  EXPECT_EQ(result.step_factor, 0);
  EXPECT_EQ(Snapshot(with.trainer), before);
  EXPECT_EQ(with.trainer.state().updates, 5);
  EXPECT_EQ(with.trainer.state().losses.back(), result.loss);
  // The bias correction goes by updates: the seventh step here is the sixth there.
  EXPECT_FALSE(with.trainer.step(good, 7).skipped);
  without.trainer.step(good, 6);
  EXPECT_EQ(Snapshot(with.trainer), Snapshot(without.trainer));
}

TEST(Trainer, StateRestoresTheHistory) {
  SmallTrainer first(skipping());
  const auto good = random_batch(first.config, 4, 1);
  for (std::int64_t step = 1; step <= 5; ++step) first.trainer.step(good, step);
  SmallTrainer second(skipping());
  const auto json = train::to_json(first.trainer.state());
  second.trainer.restore(train::parse_trainer_state(io::Fields(json, "state")));
  EXPECT_EQ(second.trainer.state(), first.trainer.state());
  EXPECT_TRUE(second.trainer.step(poisoned(good), 6).skipped);
  SmallTrainer fresh(skipping());
  EXPECT_FALSE(fresh.trainer.step(poisoned(good), 6).skipped);
}

TEST(Trainer, SkippedRangesComputeNothing) {
  auto config = small_training();
  config.skip_steps = {{2, 3}};
  SmallTrainer with(config), without(small_training());
  const auto batch = random_batch(config, 4, 1);
  for (std::int64_t step = 1; step <= 5; ++step) {
    const auto result = with.trainer.step(batch, step);
    EXPECT_EQ(result.skipped, step == 2 || step == 3);
    EXPECT_EQ(result.measured(), !result.skipped);
  }
  for (std::int64_t step = 1; step <= 3; ++step) without.trainer.step(batch, step);
  EXPECT_EQ(Snapshot(with.trainer), Snapshot(without.trainer));
  EXPECT_EQ(with.trainer.state(), without.trainer.state());
}

// The planned length is a bound: it does not change what a shorter batch gives.
TEST(Trainer, ShorterSequencesGiveWhatAPlanOfTheirLengthGives) {
  auto longer = small_training(), exact = small_training();
  longer.data.sequence_length = 2 * kLength;
  SmallTrainer a(longer, "cpu", Arithmetic::strict), b(exact, "cpu", Arithmetic::strict);
  for (std::int64_t step = 1; step <= 3; ++step) {
    const auto batch = random_batch(exact, 4, static_cast<std::uint64_t>(step));
    EXPECT_EQ(a.trainer.step(batch, step).loss, b.trainer.step(batch, step).loss);
  }
  EXPECT_EQ(Snapshot(a.trainer), Snapshot(b.trainer));
}

TEST(Trainer, BatchWarmupTakesSmallerBatches) {
  auto config = small_training();
  config.batch_warmup = {{3, 2}};
  SmallTrainer warming(config);
  auto small = small_training();
  small.batch_size = 2;
  SmallTrainer two(small);
  for (std::int64_t step = 1; step <= 2; ++step) {
    const auto batch = random_batch(config, 2, static_cast<std::uint64_t>(step));
    EXPECT_EQ(warming.trainer.step(batch, step).loss, two.trainer.step(batch, step).loss);
  }
  EXPECT_EQ(Snapshot(warming.trainer), Snapshot(two.trainer));
  EXPECT_HOLDS(message_of([&] { warming.trainer.step(random_batch(config, 2, 3), 3); }),
               "step 3 trains 4 of at most 32");
  warming.trainer.step(random_batch(config, 4, 3), 3);
  EXPECT_EQ(warming.trainer.work().step_peak(), warming.trainer.memory_plan().activations);
  EXPECT_EQ(warming.trainer.work().scratch_peak(), warming.trainer.memory_plan().scratch);
}

// With nothing to predict the gradients are zero, and only decay is left.
TEST(Trainer, OnlyWhatIsNotExemptDecays) {
  const auto changed = [](const std::vector<std::string>& no_decay, const train::RunConfig& base) {
    auto config = base;
    config.optimizer.no_decay = no_decay;
    config.schedule.peak = 0.5;
    SmallTrainer t(config);
    auto batch = random_batch(config, 4, 1);
    std::ranges::fill(batch.targets, -1);
    batch.predicted = 0;
    std::vector<std::vector<float>> before;
    const auto list = model::list(t.trainer.parameters().tree(), config.model);
    for (const auto& p : list) before.push_back(to_host<float>(*host_memory(), p.tensor));
    EXPECT_EQ(t.trainer.step(batch, 1).loss, 0);
    std::vector<std::string> names;
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (to_host<float>(*host_memory(), list[i].tensor) != before[i]) names.push_back(list[i].spec.name);
    }
    return names;
  };
  const auto config = small_training();
  const SmallTrainer any(config);
  const auto list = model::list(any.trainer.parameters().tree(), config.model);
  const auto paper = changed({"embedding"}, config);
  EXPECT_EQ(paper.size(), list.size() - 1);
  EXPECT_EQ(std::ranges::count(paper, "model.embed_tokens.weight"), 0);
  EXPECT_EQ(changed({}, config).size(), list.size());
  for (const auto& name : changed({"norm", "gates", "lm_head.weight", "*mlp*"}, config)) {
    for (const auto* part : {"norm", "A_log", "dt_bias", "lm_head", "mlp"})
      EXPECT_FALSE(holds(name, part)) << name;
  }
  auto wrong = config;
  wrong.optimizer.no_decay = {"*.no_such_thing"};
  EXPECT_HOLDS(message_of([&] { SmallTrainer t(wrong); }), "'*.no_such_thing' is no parameter");
}

TEST(Trainer, EnqueuedStepsAreSteps) {
  for (const auto& config : {small_training(), skipping()}) {
    SmallTrainer one_by_one(config), ahead(config);
    double sum = 0;
    train::StepResult last;
    for (std::int64_t step = 1; step <= 5; ++step) {
      const auto batch = random_batch(config, 4, static_cast<std::uint64_t>(step));
      last = one_by_one.trainer.step(batch, step);
      sum += last.loss;
      ahead.trainer.enqueue(batch, step);
    }
    const auto tally = ahead.trainer.tally();
    EXPECT_EQ(tally.steps, 5);
    EXPECT_EQ(tally.failed_step, 0);
    EXPECT_EQ(tally.loss_sum, sum);
    EXPECT_EQ(tally.loss, last.loss);
    EXPECT_EQ(tally.gradient_norm, last.gradient_norm);
    EXPECT_EQ(Snapshot(ahead.trainer), Snapshot(one_by_one.trainer));
    EXPECT_EQ(ahead.trainer.state().updates, one_by_one.trainer.state().updates);
  }
}

// A sum that goes on in another trainer, as after a checkpoint, is the same to the last bit.
TEST(Trainer, ATallyIsCarriedOver) {
  const auto config = small_training();
  SmallTrainer whole(config), first(config), second(config);
  for (std::int64_t step = 1; step <= 6; ++step) {
    const auto batch = random_batch(config, 4, static_cast<std::uint64_t>(step));
    whole.trainer.enqueue(batch, step);
    if (step == 4) {
      second.trainer.set_tally(first.trainer.tally());
      for (const auto& sets : {std::pair{&second.trainer.parameters(), &first.trainer.parameters()},
                               std::pair{&second.trainer.first_moment(), &first.trainer.first_moment()},
                               std::pair{&second.trainer.second_moment(), &first.trainer.second_moment()}}) {
        std::memcpy(sets.first->flat().mutable_data(), sets.second->flat().data, sets.first->bytes());
      }
      second.trainer.restore(first.trainer.state());
      second.trainer.parameters_changed();
    }
    (step < 4 ? first : second).trainer.enqueue(batch, step);
  }
  EXPECT_EQ(second.trainer.tally().loss_sum, whole.trainer.tally().loss_sum);
  EXPECT_EQ(second.trainer.tally().steps, 6);
}

// Forward treats every token by itself where arithmetic is strict, so that the loss has the same bits however
// the batch is split. Weight gradients are sums over the tokens of a micro-batch that are added up in f32:
// their bits differ, by rounding.
TEST(Trainer, AnotherSplitGivesTheSameLossAndGradientsUpToRounding) {
  for (const auto* backend : {"reference", "cpu"}) {
    std::vector<train::StepResult> results;
    for (const std::int64_t micro : {1, 2, 4}) {
      auto config = small_training();
      config.micro_batch_size = micro;
      SmallTrainer t(config, backend, Arithmetic::strict);
      results.push_back(t.trainer.step(random_batch(config, 4, 1), 1));
      EXPECT_EQ(results.back().loss, results.front().loss) << backend;
      EXPECT_EQ(results.back().z_loss, results.front().z_loss) << backend;
      // Relative, of a sum of 128 terms in f32.
      const double tolerance = tolerance_for(DType::f32, 4 * kLength).relative_rms;
      EXPECT_NEAR(results.back().gradient_norm / results.front().gradient_norm, 1, tolerance) << backend;
    }
  }
}

}  // namespace
}  // namespace braid::test
