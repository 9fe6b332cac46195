#include "braid/model/soup.h"

#include <gtest/gtest.h>

#include "braid/model/weights.h"
#include "tests/support/comparator.h"
#include "tests/support/files.h"
#include "tests/support/small_models.h"

namespace braid::test {
namespace {

namespace fs = std::filesystem;

// The model of that seed, written as `dtype`.
fs::path save(const fs::path& folder, const model::ModelConfig& config, std::uint64_t seed,
              DType dtype = DType::f32) {
  const auto parameters = small_parameters(config, seed);
  model::save_model(folder, parameters.tree(), config, {.dtype = dtype});
  put(folder / "braid_tokenizer.json", "{\"type\": \"byte\"}\n");
  return folder;
}

// Σ weights[m] · models[m] of every element, by loading the models whole.
void expect_average(const fs::path& soup, const std::vector<fs::path>& models,
                    const std::vector<double>& weights) {
  const auto got = model::load_model(soup, {});
  std::vector<model::Model> parts;
  for (const auto& path : models) parts.push_back(model::load_model(path, {}));
  const auto flat = got.parameters.flat();
  for (std::int64_t i = 0; i < flat.count(); ++i) {
    double want = 0;
    for (std::size_t m = 0; m < parts.size(); ++m)
      want += weights[m] * element(parts[m].parameters.flat(), i);
    ASSERT_EQ(element(flat, i), static_cast<double>(static_cast<float>(want))) << i;
  }
}

TEST(Soup, IsTheAverageForEveryKindOfModelAndDtype) {
  for (const auto& [name, config] : small_models()) {
    const TemporaryFolder folder;
    const std::vector<fs::path> models{save(folder / "a", config, 1),
                                       save(folder / "b", config, 2, DType::bf16)};
    const auto summary = model::make_soup(models, folder / "soup", {});
    EXPECT_EQ(summary.weights, (std::vector{0.5, 0.5})) << name;
    expect_average(folder / "soup", models, {0.5, 0.5});
    EXPECT_TRUE(fs::exists(folder / "soup/braid_tokenizer.json"));
  }
}

TEST(Soup, WeightsAreDividedByTheirSumAndShardsAreTheSame) {
  const TemporaryFolder folder;
  const auto config = small_models()[0].config;
  const std::vector<fs::path> models{save(folder / "a", config, 1), save(folder / "b", config, 2),
                                     save(folder / "c", config, 3)};
  model::make_soup(models, folder / "soup", {.weights = {3, 1, 0}});
  expect_average(folder / "soup", models, {0.75, 0.25, 0});
  model::make_soup(models, folder / "shards", {.weights = {0.75, 0.25, 0}, .max_shard_bytes = 20000});
  EXPECT_TRUE(fs::exists(folder / "shards/model.safetensors.index.json"));
  expect_average(folder / "shards", models, {0.75, 0.25, 0});
}

TEST(Soup, OfOneModelIsThatModel) {
  const TemporaryFolder folder;
  const auto a = save(folder / "a", small_models()[0].config, 1);
  model::make_soup({a}, folder / "soup", {});
  EXPECT_EQ(io::read_file(folder / "soup/model.safetensors"), io::read_file(a / "model.safetensors"));
}

TEST(Soup, WhatDoesNotFitIsNamed) {
  const TemporaryFolder folder;
  auto config = small_models()[0].config;
  const auto a = save(folder / "a", config, 1), b = save(folder / "b", config, 2);
  const auto soup = [&](const std::vector<fs::path>& models, std::vector<double> weights = {}) {
    return message_of([&] { model::make_soup(models, folder / "soup", {.weights = weights}); });
  };
  EXPECT_HOLDS(soup({a, b}, {1}), "1 weights for 2 models");
  EXPECT_HOLDS(soup({a, b}, {1, -1}), "weight -1");
  EXPECT_HOLDS(soup({a, b}, {0, 0}), "sum to 0");
  config.intermediate_size = 96;
  const auto wide = save(folder / "wide", config, 3);
  EXPECT_HOLDS(soup({a, wide}), "'intermediate_size' is 96");
  put(b / "braid_tokenizer.json", "{\"type\": \"other\"}");
  EXPECT_HOLDS(soup({a, b}), "another tokenizer");
  fs::copy_file(a / "braid_tokenizer.json", b / "braid_tokenizer.json", fs::copy_options::overwrite_existing);
  fs::copy_file(wide / "model.safetensors", b / "model.safetensors", fs::copy_options::overwrite_existing);
  EXPECT_HOLDS(soup({a, b}), "tensor 'model.layers.0.mlp.");
  EXPECT_FALSE(fs::exists(folder / "soup"));
  EXPECT_FALSE(fs::exists(folder / "soup.unfinished"));
  put(fs::path(folder / "wide") / "note", "mine");
  EXPECT_HOLDS(message_of([&] { model::make_soup({a}, wide, {}); }), "choose another output");
}

}  // namespace
}  // namespace braid::test
