// Training on the GPU: two runs of twenty steps agree in every bit, and recompute changes nothing.
#include "braid/train/trainer.h"

#include "tests/support/small_models.h"
#include "tests/support/trial.h"

namespace braid::test {
namespace {

struct Trained {
  std::vector<double> losses, norms;
  model::ParameterSet weights;
};

Trained train_twenty(const SmallModel& m, train::Precision precision, model::Recompute recompute) {
  train::RunConfig config;
  config.model = m.config;
  config.data.sequence_length = 70;
  config.batch_size = 4;
  config.micro_batch_size = 2;
  config.steps = 20;
  config.precision = precision;
  config.recompute = recompute;
  const Backend& backend = cuda_context().backend();
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
                      .segment_offsets = layout.offsets};
    for (std::size_t i = 69; i < 280; i += 70) batch.targets[i] = -1;
    const auto result = trainer.step(batch, step);
    out.losses.push_back(result.loss);
    out.norms.push_back(result.gradient_norm);
  }
  out.weights = trainer.parameters().copy_in(host_memory(), m.config);
  return out;
}

TEST(GpuTrainer, TwentyStepsRepeatBitForBit) {
  for (const auto& m : small_models()) {
    for (const auto precision : {train::Precision::f32, train::Precision::bf16}) {
      const auto once = train_twenty(m, precision, model::Recompute::none);
      for (const auto recompute : {model::Recompute::none, model::Recompute::block}) {
        const auto again = train_twenty(m, precision, recompute);
        EXPECT_EQ(again.losses, once.losses) << m.name;
        EXPECT_EQ(again.norms, once.norms) << m.name;
        expect_same(again.weights.flat(), once.weights.flat(), m.name);
      }
    }
  }
}

}  // namespace
}  // namespace braid::test
