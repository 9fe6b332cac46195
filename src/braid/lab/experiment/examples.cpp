#include "braid/lab/experiment/examples.h"

#include <limits>

namespace braid::lab {
namespace {

constexpr std::int32_t kNoTarget = -1;

// Seeds of what must not share examples. The stream keeps them apart.
std::uint64_t seed_of(std::uint64_t experiment, std::uint64_t run, std::uint64_t use) {
  constexpr std::uint64_t kStream = 0x6c6162;  // "lab"
  return Random(Random(experiment, kStream + use).next_u64() ^ run, kStream + use).next_u64();
}

void add_targets(data::Batch& batch, const Example& example, std::size_t begin, LossTokens loss) {
  const auto predict = [&](std::size_t index) {
    batch.targets[begin + index - 1] = example.ids[index];
    ++batch.predicted;
  };
  if (loss == LossTokens::answers) {
    for (const auto index : example.answers) predict(static_cast<std::size_t>(index));
  } else {
    for (std::size_t index = 1; index < example.ids.size(); ++index) predict(index);
  }
}

}  // namespace

data::Batch pack(std::span<const Example> examples, const PackOptions& options) {
  std::int64_t used = 0;
  for (const auto& example : examples) used += std::ssize(example.ids);
  const auto tile = options.instances * options.row_tile;
  const auto total = (used + tile - 1) / tile * tile;
  require(used > 0 && total <= std::numeric_limits<std::int32_t>::max(),
          "lab: a batch of {} tokens, expected 1 to 2^31 - 1: choose fewer or shorter examples", used);
  data::Batch batch;
  batch.instances = options.instances;
  batch.sequence_length = total / options.instances;
  const auto size = static_cast<std::size_t>(total);
  batch.ids.assign(size, 0);
  batch.targets.assign(size, kNoTarget);
  batch.positions.assign(size, 0);
  batch.segment_offsets.push_back(0);
  std::size_t begin = 0;
  const auto end_at = [&](std::size_t end) {
    for (auto i = begin; i < end; ++i) batch.positions[i] = static_cast<std::int32_t>(i - begin);
    batch.segment_offsets.push_back(static_cast<std::int32_t>(end));
    begin = end;
  };
  for (const auto& example : examples) {
    std::ranges::copy(example.ids, batch.ids.begin() + static_cast<std::ptrdiff_t>(begin));
    add_targets(batch, example, begin, options.loss);
    end_at(begin + example.ids.size());
  }
  if (begin < size) end_at(size);
  return batch;
}

TestBatch pack_tests(std::span<const Example> examples) {
  TestBatch test{.batch = pack(examples, {.loss = LossTokens::answers}), .rows = {}, .answers = {}};
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const auto last = examples[i].answers.back();
    test.rows.push_back(static_cast<std::int32_t>(test.batch.segment_offsets[i] + last - 1));
    test.answers.push_back(examples[i].ids[static_cast<std::size_t>(last)]);
  }
  return test;
}

RunData::RunData(const Experiment& experiment, std::int64_t run_seed)
    : experiment_(experiment),
      training_seed_(seed_of(experiment.seed, static_cast<std::uint64_t>(run_seed), 0)),
      check_seed_(seed_of(experiment.seed, static_cast<std::uint64_t>(run_seed), 1)),
      evaluation_seed_(seed_of(experiment.seed, 0, 2)) {}

data::Batch RunData::training_batch(std::int64_t step, std::size_t stage) const {
  std::vector<Example> examples;
  for (std::int64_t row = 0; row < experiment_.batch_size; ++row) {
    const auto index = static_cast<std::uint64_t>(step * experiment_.batch_size + row);
    Random random(training_seed_, index);
    const auto& s = experiment_.curriculum.stages[draw_stage(experiment_.curriculum, stage, random)];
    const auto spacing = draw_reveal_spacing(experiment_.curriculum, s, random);
    examples.push_back(experiment_.problem->make(experiment_.form, experiment_.difficulty(s.n, spacing),
                                                 training_seed_, index));
  }
  return pack(examples, {.instances = experiment_.batch_size, .loss = experiment_.loss});
}

std::vector<Example> RunData::tests(std::uint64_t seed, std::int64_t n, std::int64_t count) const {
  const auto difficulty = experiment_.difficulty(n, experiment_.evaluation_reveal_spacing);
  std::vector<Example> examples;
  for (std::int64_t i = 0; i < count; ++i) {
    examples.push_back(
        experiment_.problem->make(experiment_.form, difficulty, seed, static_cast<std::uint64_t>(i)));
  }
  return examples;
}

std::vector<Example> RunData::held_out(std::size_t stage) const {
  return tests(check_seed_, experiment_.curriculum.stages[stage].n, experiment_.check_samples);
}

std::vector<Example> RunData::evaluation(std::int64_t n) const {
  return tests(evaluation_seed_, n, experiment_.samples);
}

}  // namespace braid::lab
