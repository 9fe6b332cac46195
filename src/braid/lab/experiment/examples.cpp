#include "braid/lab/experiment/examples.h"

#include <algorithm>
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

std::int64_t longest_of(std::span<const Example> examples) {
  std::int64_t longest = 0;
  for (const auto& example : examples) longest = std::max<std::int64_t>(longest, std::ssize(example.ids));
  return longest;
}

PackedSizes PackedSizes::of(std::int64_t longest) {
  constexpr std::int64_t kLeast = 8, kTiles = 32;
  const auto round_up = [](std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; };
  const auto tile = round_up(longest, kLeast * kTiles) / kTiles;
  return {.row = round_up(longest, tile), .tile = tile};
}

data::Batch pack(std::span<const Example> examples, const PackOptions& options) {
  const auto count = std::ssize(examples);
  require(count > 0 && count % options.instances == 0, "lab: {} examples do not fill {} rows", count,
          options.instances);
  const auto [row, tile] = PackedSizes::of(std::max(options.longest, longest_of(examples)));
  std::int64_t used = 0;
  for (const auto& example : examples) used += std::ssize(example.ids);
  const auto total = (used + count * tile - 1) / (count * tile) * (count * tile);
  require(total <= std::numeric_limits<std::int32_t>::max(),
          "lab: a batch of {} tokens, expected at most 2^31 - 1: choose fewer or shorter examples", total);
  data::Batch batch;
  batch.instances = options.instances;
  batch.sequence_length = total / options.instances;
  batch.longest_segment = row;
  const auto size = static_cast<std::size_t>(total);
  batch.ids.assign(size, Vocabulary::pad);
  batch.targets.assign(size, kNoTarget);
  batch.segment_offsets.push_back(0);
  auto padding = total - used;
  for (const auto& example : examples) {
    const auto begin = batch.positions.size();
    std::ranges::copy(example.ids, batch.ids.begin() + static_cast<std::ptrdiff_t>(begin));
    add_targets(batch, example, begin, options.loss);
    const auto room = std::min(padding, row - std::ssize(example.ids));
    padding -= room;
    for (std::int64_t i = 0; i < std::ssize(example.ids) + room; ++i) {
      batch.positions.push_back(static_cast<std::int32_t>(i));
    }
    batch.segment_offsets.push_back(static_cast<std::int32_t>(batch.positions.size()));
  }
  return batch;
}

TestBatch pack_tests(std::span<const Example> examples, std::int64_t longest) {
  TestBatch test{
      .batch = pack(examples, {.loss = LossTokens::answers, .longest = longest}), .rows = {}, .answers = {}};
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
      evaluation_seed_(seed_of(experiment.seed, 0, 2)) {
  constexpr std::uint64_t kDrawn = 16;  // for each spacing
  const auto seed = seed_of(experiment.seed, 0, 3);
  for (const auto& stage : experiment.curriculum.stages) {
    auto& longest = longest_.emplace_back();
    for (const auto spacing : reveal_spacings(experiment.curriculum, stage)) {
      for (std::uint64_t i = 0; i < kDrawn; ++i) {
        const auto drawn =
            experiment.problem->make(experiment.form, experiment.difficulty(stage.n, spacing), seed, i);
        longest = std::max<std::int64_t>(longest, std::ssize(drawn.ids));
      }
    }
  }
}

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
  return pack(examples,
              {.instances = experiment_.batch_size, .loss = experiment_.loss, .longest = longest_[stage]});
}

std::vector<Example> RunData::tests(std::uint64_t seed, std::int64_t n, std::int64_t count) const {
  const auto difficulty = experiment_.evaluation_difficulty(n);
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
