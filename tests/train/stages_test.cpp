// Stages that follow one another: what a run starts from, and what it may change about the model.
#include <gtest/gtest.h>

#include "braid/backends/backends.h"
#include "braid/model/config_file.h"
#include "braid/model/soup.h"
#include "braid/model/weights.h"
#include "braid/train/run.h"
#include "tests/support/files.h"

namespace braid::test {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kNewModel =
    "layers = 4\nhidden_size = 16\nheads = 2\nintermediate_size = 32\nmax_positions = 64\n";

// A stage in folder/NAME with one training sequence, so that every step sees the same batch.
train::RunConfig stage(const fs::path& folder, const std::string& name, std::string_view model,
                       const std::string& steps, std::vector<std::string> overrides = {}) {
  put(folder / "text.jsonl", "{\"text\": \"the quick brown fox jumps over the dog\"}\n");
  put(folder / (name + ".toml"), fmt::format(R"([run]
folder = "{0}/{1}"
[data]
documents = ["{0}/text.jsonl"]
validation_fraction = 0
sequence_length = 32
[model]
{2}
[train]
steps = {3}
batch_size = 1
[schedule]
learning_rate = 0.01
decay = "constant"
)",
                                             folder.string(), name, model, steps));
  return train::read_run_config(folder / (name + ".toml"), overrides);
}

void run(const train::RunConfig& config) {
  const Backend backend = make_backend("cpu", {.threads = 1, .target = {}});
  train::run(backend, config, {});
}

std::string from(const fs::path& path, std::string_view more = "") {
  return fmt::format("start_from = \"{}\"\n{}", path.string(), more);
}

std::string weights(const fs::path& run) { return io::read_file(run / "model/model.safetensors"); }

TEST(Stages, OptimizerStateGoesOnAsIfUnbroken) {
  const TemporaryFolder folder;
  run(stage(folder.path(), "whole", kNewModel, "5"));
  run(stage(folder.path(), "first", kNewModel, "3"));
  run(stage(folder.path(), "carried", from(folder / "first", "optimizer_state = true"), "2"));
  run(stage(folder.path(), "fresh", from(folder / "first"), "2"));
  EXPECT_EQ(weights(folder / "carried"), weights(folder / "whole"));
  EXPECT_NE(weights(folder / "fresh"), weights(folder / "whole"));
}

TEST(Stages, StartFromARunACheckpointOrAModelDirectory) {
  const TemporaryFolder folder;
  run(stage(folder.path(), "first", kNewModel, "2"));
  const std::vector<fs::path> starts{folder / "first", folder / "first/checkpoints/step_00000002",
                                     folder / "first/model"};
  for (const auto& start : starts) {
    const auto name = fmt::format("next-{}", start.filename().string());
    run(stage(folder.path(), name, from(start), "1",
              {"schedule.learning_rate=0", "optimizer.weight_decay=0"}));
    EXPECT_EQ(weights(folder / name), weights(folder / "first")) << start;
  }
  // Without its final model, a run is what its newest checkpoint holds.
  fs::remove_all(folder / "first/model");
  EXPECT_EQ(train::find_start(folder / "first", train::OptimizerState::fresh).weights, starts[1]);
}

TEST(Stages, PositionsMayChangeOnALoadedModel) {
  const TemporaryFolder folder;
  run(stage(folder.path(), "first", kNewModel, "1"));
  const auto start = folder / "first";
  const auto before = model::read_config(start / "model");
  run(stage(folder.path(), "drope", from(start, "rope = \"none\"\nmax_positions = 256"), "1"));
  const auto drope = model::read_config(folder / "drope/model");
  EXPECT_EQ(drope.attention.rope_full.type, model::RopeType::none);
  EXPECT_EQ(drope.max_positions, 256);
  EXPECT_EQ(model::model_type_of(drope), "olmo_hybrid");
  EXPECT_HOLDS(io::read_file(folder / "drope/model/config.json"), "\"rope_theta\": null");

  run(stage(folder.path(), "yarn", from(start, "[model.yarn]\nfactor = 8\n"), "1"));
  const auto yarn = model::read_config(folder / "yarn/model");
  const auto& rope = yarn.attention.rope_full;
  EXPECT_EQ(rope.type, model::RopeType::yarn);
  EXPECT_EQ(rope.theta, before.attention.rope_full.theta);
  EXPECT_EQ(rope.factor, 8);
  EXPECT_EQ(rope.original_context, 64);
  EXPECT_EQ(rope.beta_fast, 32);
  EXPECT_EQ(rope.beta_slow, 1);
  EXPECT_NEAR(rope.attention_factor, 1.2079441541679836, 1e-15);  // 0.1 ln 8 + 1
  EXPECT_EQ(yarn.max_positions, 512);
  // Neither changes a weight before the first step.
  run(stage(folder.path(), "still", from(start, "rope = \"none\""), "1",
            {"schedule.learning_rate=0", "optimizer.weight_decay=0"}));
  EXPECT_EQ(weights(folder / "still"), weights(start));
}

TEST(Stages, PositionsKeepWhatTheRecipeDoesNotName) {
  const TemporaryFolder folder;
  run(stage(folder.path(), "first",
            std::string(kNewModel) + "rope_theta = 1000\n[model.yarn]\nfactor = 2\noriginal_context = 64\n",
            "1"));
  const auto start = folder / "first";
  const auto read = [&](std::string_view changes) {
    return stage(folder.path(), "next", from(start, changes), "1").model;
  };
  const auto theta = read("rope_theta = 2000").attention.rope_full;
  EXPECT_EQ(theta.type, model::RopeType::yarn);
  EXPECT_EQ(theta.theta, 2000);
  EXPECT_EQ(theta.factor, 2);
  const auto plain = read("rope = \"default\"").attention.rope_full;
  EXPECT_EQ(plain.type, model::RopeType::standard);
  EXPECT_EQ(plain.theta, 1000);
  const auto further = read("[model.yarn]\nfactor = 4");
  EXPECT_EQ(further.attention.rope_full.original_context, 64);
  EXPECT_EQ(further.max_positions, 256);
  EXPECT_HOLDS(message_of([&] { read("rope = \"none\"\nrope_theta = 2000"); }), "this model has none");
  const auto made = std::string(kNewModel) + "[model.yarn]\nfactor = 2\n";
  EXPECT_HOLDS(message_of([&] { stage(folder.path(), "new", made, "1"); }),
               "'model.yarn.original_context' is missing");
}

TEST(Stages, DamagedCheckpointsAreNoBeginning) {
  const TemporaryFolder folder;
  run(stage(folder.path(), "first", kNewModel, "2", {"checkpoint.every=1"}));
  const auto start = folder / "first", newest = start / "checkpoints/step_00000002";
  auto bytes = io::read_file(newest / "model.safetensors");
  bytes[bytes.size() - 2] = static_cast<char>(bytes[bytes.size() - 2] ^ 1);
  put(newest / "model.safetensors", bytes);
  EXPECT_HOLDS(message_of([&] { run(stage(folder.path(), "fresh", from(newest), "1")); }),
               "model.safetensors");
  const auto error =
      message_of([&] { stage(folder.path(), "next", from(start, "optimizer_state = true"), "1"); });
  EXPECT_HOLDS(error, "step_00000002");
  EXPECT_HOLDS(error, "such as " + (start / "checkpoints/step_00000001").string());
}

// Flips the last bit of one byte, counted from the end.
void flip(const fs::path& file, std::size_t from_end = 2) {
  auto bytes = io::read_file(file);
  bytes[bytes.size() - from_end] ^= 1;
  put(file, bytes);
}

TEST(Stages, DamagedModelsAreNoBeginning) {
  const TemporaryFolder folder;
  run(stage(folder.path(), "first", kNewModel, "1", {"checkpoint.max_shard_bytes=8000"}));
  const auto start = folder / "first", model = start / "model";
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(model)) files.push_back(entry.path().filename().string());
  std::ranges::sort(files);
  ASSERT_GT(std::ranges::count_if(files, [](const auto& f) { return f.ends_with(".safetensors"); }), 2);
  const auto soup = [&](const fs::path& a, const fs::path& b) {
    model::make_soup({a, b}, folder / "soup", {});
  };
  soup(model, model);
  fs::rename(folder / "soup", folder / "other");
  fs::copy(model, folder / "whole");
  for (const auto& file : files) {
    for (const auto& damaged : {model, folder / "other"}) {
      if (!fs::exists(damaged / file)) continue;  // a soup may be cut into other shards
      const auto bytes = io::read_file(damaged / file);
      flip(damaged / file);
      const auto path = (damaged / file).string();
      const auto again = fmt::format("data.tokenizer=\"{}\"", damaged.string());
      EXPECT_HOLDS(message_of([&] { run(stage(folder.path(), "next", from(damaged), "1", {again})); }), path);
      EXPECT_FALSE(fs::exists(folder / "next/model"));
      EXPECT_HOLDS(message_of([&] { soup(folder / "whole", damaged), soup(damaged, folder / "whole"); }),
                   path);
      EXPECT_FALSE(fs::exists(folder / "soup"));
      EXPECT_HOLDS(message_of([&] {  // as eval, generate, dump and convert begin
                     text::load_tokenizer(damaged);
                     model::load_model(damaged, {});
                   }),
                   path);
      put(damaged / file, bytes);
    }
  }
  run(stage(folder.path(), "next", from(folder / "other"), "1"));
}

TEST(Stages, ModelsWithoutChecksumsLoadAsTheyAre) {
  const TemporaryFolder folder;
  run(stage(folder.path(), "first", kNewModel, "1"));
  const auto model = folder / "first/model";
  flip(model / "model.safetensors");
  EXPECT_HOLDS(message_of([&] { model::load_model(model, {}); }), "remove checksums.json");
  fs::remove(model / "checksums.json");
  EXPECT_NO_THROW(model::load_model(model, {}));
  run(stage(folder.path(), "next", from(model), "1"));
}

TEST(Stages, WhatCannotStartIsNamed) {
  const TemporaryFolder folder;
  run(stage(folder.path(), "first", kNewModel, "1"));
  const auto error = [&](std::string_view model) {
    return message_of([&] { stage(folder.path(), "next", model, "1"); });
  };
  const auto start = folder / "first";
  EXPECT_HOLDS(error(from(folder / "none")), "none: no such folder");
  EXPECT_HOLDS(error(from(start / "model", "optimizer_state = true")), "holds no optimiser state");
  EXPECT_HOLDS(error(from(folder.path())), "neither a config.json nor");
  EXPECT_HOLDS(error(from(start, "directory = \"a\"")), "two models");
  EXPECT_HOLDS(error(from(start, "hidden_size = 64")), "hidden_size");
  EXPECT_HOLDS(error(fmt::format("directory = \"{}\"\noptimizer_state = true", (start / "model").string())),
               "goes with 'start_from'");
  EXPECT_HOLDS(error(from(start, "rope = \"none\"\n[model.yarn]\nfactor = 8")), "has none");
  EXPECT_HOLDS(error(from(start, "[model.yarn]\nbeta_fast = 1")), "beta_slow");
  fs::remove_all(start / "checkpoints");
  EXPECT_HOLDS(error(from(start, "optimizer_state = true")), "nor a checkpoint");
}

}  // namespace
}  // namespace braid::test
