// A trainer of a small model with random batches.
#pragma once
#include "braid/backends/backends.h"
#include "braid/train/trainer.h"
#include "tests/support/comparator.h"
#include "tests/support/files.h"
#include "tests/support/small_models.h"

namespace braid::test {

inline constexpr std::int64_t kLength = 32;

inline train::RunConfig small_training(std::size_t model = 0) {
  train::RunConfig config;
  config.model = small_models()[model].config;
  config.data.sequence_length = kLength;
  config.batch_size = 4;
  config.micro_batch_size = 2;
  config.steps = 100;
  config.schedule = {.peak = 1e-3, .decay = train::Decay::constant};
  return config;
}

inline data::Batch random_batch(const train::RunConfig& c, std::int64_t instances, std::uint64_t seed) {
  const auto layout = model::RowLayout::of(instances, kLength);
  data::Batch batch{.instances = instances,
                    .sequence_length = kLength,
                    .ids = small_ids(instances * kLength, c.model.vocabulary_size, seed),
                    .targets = small_ids(instances * kLength, c.model.vocabulary_size, seed + 100),
                    .positions = layout.positions,
                    .segment_offsets = layout.offsets,
                    .predicted = instances * (kLength - 1)};
  for (std::int64_t i = 1; i <= instances; ++i) batch.targets[static_cast<std::size_t>(i * kLength - 1)] = -1;
  return batch;
}

// Owns what the trainer refers to.
struct SmallTrainer {
  explicit SmallTrainer(train::RunConfig c, std::string_view backend_name = "cpu",
                        Arithmetic arithmetic = Arithmetic::fast)
      : config(std::move(c)),
        backend(make_backend(backend_name, {.threads = 1, .target = {}}, arithmetic)),
        trainer(backend, config) {
    model::initialize(trainer.parameters().tree(), config.model, 5);
    trainer.parameters_changed();
  }
  Tensor parameter(const std::string& name) const {
    for (const auto& [spec, tensor] : model::list(trainer.parameters().tree(), config.model)) {
      if (spec.name == name) return tensor;
    }
    ADD_FAILURE() << "no parameter " << name;
    return {};
  }

  train::RunConfig config;
  Backend backend;
  train::Trainer trainer;
};

// Parameters and both moments at one time.
struct Snapshot {
  explicit Snapshot(const train::Trainer& t) {
    for (const auto* set : {&t.parameters(), &t.first_moment(), &t.second_moment()}) {
      values.push_back(to_host<float>(*host_memory(), set->flat()));
    }
  }
  bool operator==(const Snapshot&) const = default;
  std::vector<std::vector<float>> values;
};

}  // namespace braid::test
