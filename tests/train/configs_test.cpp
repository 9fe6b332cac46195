// Every recipe under configs/ is one that braid understands.
#include <gtest/gtest.h>

#include <map>

#include "braid/model/config_file.h"
#include "braid/model/presets.h"
#include "braid/train/config.h"
#include "tests/support/files.h"

namespace braid::test {
namespace {

namespace fs = std::filesystem;

// Of `braid train`; those of `braid lab` have a format and tests of their own.
std::vector<fs::path> recipes() {
  std::vector<fs::path> all;
  const fs::path lab = source_folder() / "configs" / "lab";
  for (auto it = fs::recursive_directory_iterator(source_folder() / "configs"); it != end(it); ++it) {
    if (it->path() == lab) it.disable_recursion_pending();
    if (it->path().extension() == ".toml") all.push_back(it->path());
  }
  std::ranges::sort(all);
  return all;
}

// The model that the stage before would leave: only its config is read here.
model::ModelConfig model_before(const fs::path& recipe) {
  const auto family = recipe.parent_path().filename();
  auto config = *model::preset(family == "olmo3_7b" ? "olmo3-7b"
                               : family == "quick"  ? "60m-hybrid-3:1"
                                                    : "olmo-hybrid-7b");
  config.max_positions = 8192;
  if (config.vocabulary_size == 0) config.vocabulary_size = 320;
  return config;
}

// Paper, sections 2 and 3 and appendix A; steps of the tuning stages from their tokens or pairs, seeds of
// those ours.
struct Stage {
  std::uint64_t seed = 1;
  std::int64_t steps = 0, warmup_steps = 0;
  double learning_rate = 0;
};
const std::map<std::string, Stage> kPaper{
    {"pretrain", {34521, 1414078, 2000, 3e-4}},
    {"midtrain_a", {1337, 23842, 0, 2.0712352850360292e-4}},
    {"midtrain_b", {683, 23842, 0, 2.0712352850360292e-4}},
    {"long_context", {123, 23842, 200, 2.07e-4}},
    {"sft_think", {1, 45395, 1362, 2.5e-5}},  // 2 * 47.6e9 / 2^21, 3 %
    {"sft_instruct", {1, 3242, 97, 2.5e-5}},  // 2 * 3.4e9 / 2^21, 3 %
    {"dpo", {1, 2031, 203, 1e-6}},            // 259,922 / 128, 10 %
};

TEST(Configs, EveryRecipeIsUnderstood) {
  ASSERT_GE(recipes().size(), 16u);
  for (const auto& recipe : recipes()) {
    SCOPED_TRACE(recipe.string());
    const TemporaryFolder before;
    put(before / "config.json", model::write_config(model_before(recipe), "float32"));
    std::vector<std::string> overrides;
    if (holds(io::read_file(recipe), "start_from =")) {
      overrides = {"model.start_from='" + before.path().string() + "'", "model.optimizer_state=false"};
    }
    const auto config = train::read_run_config(recipe, overrides);
    const auto name = recipe.stem().string();
    if (recipe.parent_path().filename() == "demo") continue;
    EXPECT_EQ(config.folder.filename(), name);
    EXPECT_EQ(config.objective == train::ObjectiveKind::dpo, name == "dpo");
    EXPECT_EQ(config.initial_model.empty(), name == "pretrain");
    if (recipe.parent_path().filename() == "quick") continue;
    // What the paper says about all stages of the 7B (paper, appendix A).
    const auto tokens = config.batch_size * config.data.sequence_length;
    EXPECT_EQ(tokens, name.starts_with("sft") ? 2097152 : 4194304);
    EXPECT_EQ(config.optimizer.z_loss, name.starts_with("sft") || name == "dpo" ? 0 : 1e-5);
    const auto paper = kPaper.at(name);
    EXPECT_EQ(config.seed, paper.seed);
    EXPECT_EQ(config.steps, paper.steps);
    EXPECT_EQ(config.schedule.peak, paper.learning_rate);
    EXPECT_EQ(config.schedule.warmup_steps, paper.warmup_steps);
    EXPECT_EQ(config.schedule.decay, name == "pretrain" ? train::Decay::cosine : train::Decay::linear);
    EXPECT_EQ(config.schedule.final_fraction, name == "pretrain" ? 0.1 : 0);
    const bool tuned = name.starts_with("sft") || name == "dpo";
    EXPECT_EQ(config.optimizer.weight_decay, tuned ? 0 : 0.1);
    EXPECT_EQ(config.optimizer.kind,
              tuned ? train::OptimizerKind::adamw : train::OptimizerKind::skip_step_adamw);
    if (name == "dpo") {
      EXPECT_EQ(config.dpo.beta, 5);
      EXPECT_EQ(config.dpo.chosen_weight, 0);
    }
    if (name == "long_context") {
      const bool hybrid = config.model.has_linear();
      EXPECT_EQ(config.model.attention.rope_full.type,
                hybrid ? model::RopeType::none : model::RopeType::yarn);
      EXPECT_EQ(config.model.max_positions, 65536);
    }
  }
}

}  // namespace
}  // namespace braid::test
