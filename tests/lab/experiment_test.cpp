// Experiments: their files, grids, curricula and batches.
#include "braid/lab/experiment/experiment.h"

#include <gtest/gtest.h>

#include <set>

#include "braid/lab/experiment/examples.h"
#include "tests/lab/small_experiment.h"
#include "tests/support/files.h"

namespace braid::test {
namespace {

using namespace lab;

std::string error_of(std::string_view from, std::string_view to) {
  return message_of([&] { parse_experiment(changed(small_experiment_text("runs/x"), from, to), "x.toml"); });
}

TEST(Experiment, ErrorsNameFileAndField) {
  EXPECT_HOLDS(error_of("name = \"swaps\"", "name = \"swap\""), "x.toml:4: 'problem.name' is unusable");
  EXPECT_HOLDS(error_of("steps = 12", "stepz = 12"), "'train.steps'");
  EXPECT_HOLDS(error_of("seeds = [1]", "seed = [1]"), "grid.seed");
  EXPECT_HOLDS(error_of("seeds = [1]", "seeds = [1, 1]"), "twice");
  EXPECT_HOLDS(error_of("seeds = [1]", "seeds = []"), "'grid.seeds' is empty");
  EXPECT_HOLDS(error_of("lengths = [2, 4]", "lengths = [4, 2]"), "'evaluation.lengths' must rise");
  EXPECT_HOLDS(error_of("lengths = [2, 4]", "lengths = [0]"), "evaluation.lengths");
  EXPECT_HOLDS(error_of("lengths = [2, 4]", "lengths = [2, 4]\nreveal_spacing = 1\nreveal_parts = 2"),
               "'evaluation.reveal_parts' is given beside reveal_spacing");
  EXPECT_HOLDS(error_of("n = 2\nsteps = 4", "n = 2"), "every stage but the last must end");
  EXPECT_HOLDS(error_of("learning_rates = [0.01]", "learning_rates = [-1]"), "'grid.learning_rates' has -1");
  EXPECT_HOLDS(error_of("schedules = [\"cosine\"]", "schedules = [\"linear\"]"),
               "'grid.schedules' has 'linear'");
  EXPECT_HOLDS(error_of("reveals = \"fixed\"", "reveals = \"none\""), "goes with problem.reveals");
  EXPECT_HOLDS(error_of("reveals = \"fixed\"", "reveals = \"fixed\"\nmodulus = 3"), "n");
  EXPECT_HOLDS(error_of("variant = \"hybrid-1:1\"", "variant = \"gdn\""), "must describe the hybrid");
  EXPECT_HOLDS(error_of("[\"gdn-negative\", \"transformer\"]", "[\"rnn\"]"), "holds 'rnn', expected some of");
  EXPECT_HOLDS(error_of("heads = 2", "heads = 2\nvocabulary_size = 3"), "'model.vocabulary_size' is 3, but");
}

TEST(Experiment, RevealsOfTheEvaluation) {
  const auto spacings = [](std::string_view keys) {
    const auto e = parse_experiment(
        changed(small_experiment_text("x"), "lengths = [2, 4]", fmt::format("lengths = [2, 20]\n{}", keys)),
        "x.toml");
    return std::pair{e.evaluation_difficulty(2).reveal_spacing, e.evaluation_difficulty(20).reveal_spacing};
  };
  EXPECT_EQ(spacings(""), (std::pair<std::int64_t, std::int64_t>{0, 0}));
  EXPECT_EQ(spacings("reveal_spacing = 3"), (std::pair<std::int64_t, std::int64_t>{3, 3}));
  EXPECT_EQ(spacings("reveal_parts = 4"), (std::pair<std::int64_t, std::int64_t>{1, 5}));
}

TEST(Experiment, ThePapersConfigurationsAreReadable) {
  for (const auto* name : {"recall", "tracking", "state_based_recall"}) {
    const auto e = read_experiment(source_folder() / "configs/lab" / fmt::format("{}.toml", name));
    EXPECT_EQ(e.runs().size(), e.grid.draws == 0 ? 100U : 50U) << name;
    EXPECT_EQ(e.lengths, (std::vector<std::int64_t>{4, 8, 16, 32, 64, 128}));
    EXPECT_EQ(e.loss, std::string_view(name) == "tracking" ? LossTokens::all : LossTokens::answers);
    const auto c = config_of(Architecture::hybrid_negative, e.hybrid);
    EXPECT_EQ(c.count(model::LayerType::linear_attention), 3);
    EXPECT_EQ(c.layers.back(), model::LayerType::full_attention);
    const auto quick = read_experiment(source_folder() / "configs/lab/quick" / fmt::format("{}.toml", name));
    EXPECT_EQ(quick.problem, e.problem);
    EXPECT_EQ(quick.architectures.size(), 5U);
  }
}

TEST(Experiment, GridsExpand) {
  const Grid grid{.learning_rates = {1e-4, 3e-4},
                  .schedules = {train::Decay::cosine, train::Decay::constant},
                  .seeds = {1, 2, 3}};
  const auto runs = expand(grid, all_architectures(), 1);
  EXPECT_EQ(runs.size(), 2 * 2 * 3 * 5U);
  EXPECT_EQ(runs[0].name(), "transformer_lr0.0001_cosine_seed1");
  EXPECT_EQ(runs[1].name(), "gdn-negative_lr0.0001_cosine_seed1");
  EXPECT_EQ(runs.back().name(), "hybrid-positive_lr0.0003_constant_seed3");
}

TEST(Experiment, DrawsAreTheSameForEveryArchitectureAndCall) {
  const Grid grid{.learning_rates = {1e-4, 3e-4, 1e-3},
                  .schedules = {train::Decay::cosine, train::Decay::constant},
                  .seeds = {7},
                  .draws = 10};
  const auto runs = expand(grid, all_architectures(), 1);
  ASSERT_EQ(runs.size(), 50U);
  EXPECT_EQ(runs, expand(grid, all_architectures(), 1));
  EXPECT_NE(runs, expand(grid, all_architectures(), 2));
  for (std::size_t i = 0; i < runs.size(); ++i) {
    EXPECT_EQ(runs[i].seed, 7 + static_cast<std::int64_t>(i / 5));
    EXPECT_EQ(runs[i].learning_rate, runs[i / 5 * 5].learning_rate);
  }
}

TEST(Experiment, ArchitecturesDifferInWhatTheyShould) {
  const auto e = parse_experiment(small_experiment_text("runs/x"), "x.toml");
  using enum Architecture;
  EXPECT_FALSE(config_of(transformer, e.hybrid).has_linear());
  for (const auto a : {gdn_negative, gdn_positive}) EXPECT_FALSE(config_of(a, e.hybrid).has_attention());
  for (const auto a : {hybrid_negative, hybrid_positive})
    EXPECT_EQ(config_of(a, e.hybrid).layers, e.hybrid.layers);
  EXPECT_TRUE(config_of(gdn_negative, e.hybrid).linear.negative_eigenvalues);
  EXPECT_FALSE(config_of(hybrid_positive, e.hybrid).linear.negative_eigenvalues);
}

TEST(Curriculum, AdvancesByStepsOrByAccuracy) {
  const Curriculum c{
      .stages = {{.n = 8, .steps = 500}, {.n = 16, .steps = 1000, .accuracy = 0.95}, {.n = 32}}};
  CurriculumState s;
  EXPECT_EQ(advanced(c, s, 499, 1.0), s);
  s = advanced(c, s, 500, 0.1);
  EXPECT_EQ(s, (CurriculumState{.stage = 1, .began = 500}));
  EXPECT_EQ(advanced(c, s, 600, 0.94), s);
  EXPECT_EQ(advanced(c, s, 600, std::nullopt), s);
  EXPECT_EQ(advanced(c, s, 600, 0.95), (CurriculumState{.stage = 2, .began = 600}));
  s = advanced(c, s, 1500, 0.2);
  EXPECT_EQ(s, (CurriculumState{.stage = 2, .began = 1500}));
  EXPECT_EQ(advanced(c, s, 1 << 30, 1.0), s);
}

TEST(Curriculum, StopsAfterChecksInARow) {
  const Curriculum c{.stages = {{.n = 8}}, .stop_accuracy = 0.99, .stop_checks = 2};
  auto s = advanced(c, {}, 100, 1.0);
  EXPECT_FALSE(s.finished);
  s = advanced(c, s, 200, 0.5);
  EXPECT_EQ(s.streak, 0);
  s = advanced(c, advanced(c, s, 300, 1.0), 400, 0.99);
  EXPECT_TRUE(s.finished);
}

TEST(Curriculum, RevealSpacingsAreUniformPowersOfTwo) {
  const Curriculum c{.stages = {{.n = 8}}, .reveals = Reveals::powers_of_two, .without_reveals = 0.2};
  std::map<std::int64_t, int> count;
  for (std::uint64_t i = 0; i < 4000; ++i) {
    Random random(3, i);
    ++count[draw_reveal_spacing(c, c.stages[0], random)];
  }
  ASSERT_EQ(count.size(), 5U);  // none, 1, 2, 4, 8; each within five deviations of 800
  for (const auto spacing : {0, 1, 2, 4, 8}) EXPECT_NEAR(count[spacing], 800, 127);
}

TEST(Curriculum, AStageMayHaveItsOwnShareWithoutReveals) {
  const auto text = changed(small_experiment_text("runs/x"), "reveal_spacing = 2",
                            "reveal_spacing = 2\nwithout_reveals = 1");
  const auto c = parse_experiment(text, "x.toml").curriculum;
  for (std::uint64_t i = 0; i < 100; ++i) {
    Random first(3, i), last(3, i);
    EXPECT_EQ(draw_reveal_spacing(c, c.stages[0], first), 1);
    EXPECT_EQ(draw_reveal_spacing(c, c.stages[1], last), 0);
    EXPECT_EQ(first.uniform(), last.uniform()) << "the draw takes as much of the numbers";
  }
  const auto none = changed(changed(changed(text, "reveals = \"fixed\"", ""), "reveal_spacing = 1", ""),
                            "reveal_spacing = 2", "");
  EXPECT_HOLDS(message_of([&] { parse_experiment(none, "x.toml"); }), "without_reveals");
}

TEST(Examples, ArePackedAsSegmentsWithoutGaps) {
  const auto e = parse_experiment(small_experiment_text("runs/x"), "x.toml");
  const RunData data(e, 1);
  const auto batch = data.training_batch(1, 1);
  EXPECT_EQ(batch.instances, e.batch_size);
  EXPECT_EQ(std::ssize(batch.ids), batch.instances * batch.sequence_length);
  EXPECT_EQ(std::ssize(batch.segment_offsets), e.batch_size + 1);
  EXPECT_EQ(batch.segment_offsets.back(), std::ssize(batch.ids));
  std::int64_t predicted = 0;
  for (std::size_t s = 0; s + 1 < batch.segment_offsets.size(); ++s) {
    const auto begin = batch.segment_offsets[s], end = batch.segment_offsets[s + 1];
    EXPECT_LE(end - begin, batch.longest_segment);
    EXPECT_EQ(batch.ids[static_cast<std::size_t>(begin)], Vocabulary::bos);
    for (auto i = begin; i < end; ++i) {
      const auto at = static_cast<std::size_t>(i);
      EXPECT_EQ(batch.positions[at], i - begin);
      const bool next = i + 1 < end && batch.ids[at + 1] != Vocabulary::pad;
      EXPECT_EQ(batch.targets[at], next ? batch.ids[at + 1] : -1);
      predicted += next ? 1 : 0;
    }
  }
  EXPECT_EQ(batch.predicted, predicted);
}

// What a recording of a step serves: few sizes in a stage, one number of segments, one bound of their
// lengths.
TEST(Examples, BatchesOfAStageHaveFewSizes) {
  for (const auto* name : {"recall", "tracking", "state_based_recall"}) {
    auto e = read_experiment(source_folder() / "configs/lab" / fmt::format("{}.toml", name));
    e.loss = LossTokens::all;  // so that `predicted` counts the examples' tokens
    const bool mixed = e.curriculum.earlier > 0;
    const RunData data(e, 1);
    for (std::size_t stage = 0; stage < e.curriculum.stages.size(); ++stage) {
      std::set<std::int64_t> sizes, bounds;
      std::int64_t used = 0, all = 0;
      for (std::int64_t step = 1; step <= 40; ++step) {
        const auto batch = data.training_batch(step, stage);
        sizes.insert(batch.sequence_length);
        bounds.insert(batch.longest_segment);
        EXPECT_LE(batch.sequence_length, batch.longest_segment);
        EXPECT_EQ(std::ssize(batch.segment_offsets), e.batch_size + 1);
        used += batch.predicted;
        all += std::ssize(batch.ids);
      }
      EXPECT_EQ(bounds.size(), 1U) << name << " stage " << stage;
      EXPECT_LE(sizes.size(), mixed                                            ? 16U
                              : std::string_view(name) == "state_based_recall" ? 12U
                                                                               : 2U)
          << name << " stage " << stage;
      const double least = mixed ? 0.8 : 0.85;
      EXPECT_GT(static_cast<double>(used), least * static_cast<double>(all)) << name << " stage " << stage;
    }
  }
}

TEST(Examples, AnswersAloneArePredictedWhereAsked) {
  auto e = parse_experiment(small_experiment_text("runs/x"), "x.toml");
  e.loss = LossTokens::answers;
  const auto batch = RunData(e, 1).training_batch(1, 1);
  // n = 4, a question after every second swap, one at the end.
  EXPECT_EQ(batch.predicted, 2 * e.batch_size);
}

TEST(Examples, ArePureFunctionsThatSeedsKeepApart) {
  const auto e = parse_experiment(small_experiment_text("runs/x"), "x.toml");
  const RunData one(e, 1), again(e, 1), other(e, 2);
  EXPECT_EQ(one.training_batch(5, 1).ids, again.training_batch(5, 1).ids);
  EXPECT_NE(one.training_batch(5, 1).ids, one.training_batch(6, 1).ids);
  EXPECT_NE(one.training_batch(5, 1).ids, other.training_batch(5, 1).ids);
  EXPECT_EQ(one.evaluation(4)[3].ids, other.evaluation(4)[3].ids);
  EXPECT_NE(one.held_out(1)[3].ids, other.held_out(1)[3].ids);
  EXPECT_NE(one.held_out(1)[3].ids, one.evaluation(4)[3].ids);
}

TEST(Examples, TestsAskForTheFinalAnswer) {
  const auto e = parse_experiment(small_experiment_text("runs/x"), "x.toml");
  const auto examples = RunData(e, 1).evaluation(4);
  const auto tests = pack_tests(examples);
  for (std::size_t i = 0; i < examples.size(); ++i) {
    EXPECT_EQ(tests.answers[i], examples[i].ids.back());
    EXPECT_EQ(tests.batch.ids[static_cast<std::size_t>(tests.rows[i])],
              examples[i].ids[examples[i].ids.size() - 2]);
  }
}

}  // namespace
}  // namespace braid::test
