#include "braid/model/counts.h"

#include <gtest/gtest.h>

#include <cmath>

#include "braid/backends/backends.h"
#include "braid/model/config_file.h"
#include "braid/model/presets.h"
#include "braid/model/session.h"
#include "tests/model/golden_models.h"

namespace braid::model {
namespace {

// Parameters in millions without the input embedding, as printed: transformer, GDN, 3:1, 1:1, 7:1, middle.
struct PaperRow {
  std::string label;
  std::array<std::int64_t, 6> millions;
};
const PaperRow kPaper[] = {
    {"60m", {57, 78, 73, 68, 75, 70}},           {"100m", {102, 140, 130, 121, 133, 127}},
    {"190m", {190, 276, 254, 233, 262, 247}},    {"370m", {371, 574, 523, 472, 548, 510}},
    {"600m", {548, 780, 722, 664, 751, 707}},    {"760m", {758, 1011, 948, 885, 980, 932}},
    {"1b", {1279, 1549, 1482, 1414, 1516, 1465}}};

TEST(Counts, ParametersOfThePapersTable) {
  for (const auto& row : kPaper) {
    for (std::size_t v = 0; v < row.millions.size(); ++v) {
      const auto name = row.label + "-" + std::string(name_of(all_variants()[v]));
      const auto n = count_parameters(*preset(name)).without_embedding();
      EXPECT_EQ(std::llround(static_cast<double>(n) / 1e6), row.millions[v]) << name << " has " << n;
    }
  }
}

TEST(Counts, ParametersOfTheReleasedModel) {
  const auto n = count_parameters(*preset("olmo-hybrid-7b"));
  EXPECT_EQ(n.total(), 7'430'870'688);
  EXPECT_EQ(n.without_embedding(), 7'045'519'008);
  EXPECT_EQ(n.embedding, 100352 * 3840);
  EXPECT_EQ(n.head, n.embedding);
  EXPECT_EQ(n.mlp, std::int64_t{32} * 3 * 3840 * 11008);
  EXPECT_EQ(n.attention, std::int64_t{8} * (4 * 3840 * 3840 + 2 * 3840));
  EXPECT_EQ(n.norms, 32 * 2 * 3840 + 3840);
  // 215,570,172 in a GDN layer (paper section 2), less its MLP and norms.
  EXPECT_EQ(n.linear, std::int64_t{24} * (215'570'172 - std::int64_t{3} * 3840 * 11008 - 2 * 3840));
}

TEST(Counts, PartsAreWhatTheFilesHold) {
  for (const auto& name : test::golden_cases()) {
    const io::TensorFiles files(test::golden(name));
    std::int64_t elements = 0;
    for (const auto& t : files.tensors()) elements += t.tensor.count();
    EXPECT_EQ(count_parameters(read_config(test::golden(name))).total(), elements) << name;
  }
}

TEST(Counts, TiedHeadCountsOnceAsTheHead) {
  auto config = *preset("60m-hybrid-3:1");
  const auto untied = count_parameters(config);
  config.tied_embeddings = true;
  const auto tied = count_parameters(config);
  EXPECT_EQ(tied.embedding, 0);
  EXPECT_EQ(tied.head, untied.head);
  EXPECT_EQ(tied.without_embedding(), untied.without_embedding());
}

// One layer by hand, paper, appendix D.4.
TEST(Counts, MultiplyAccumulatesAreThePapersFormulas) {
  const double d = 3840, h = 30, k = 30 * 96, v = 30 * 192, mlp = 11008, s = 8192, chunk = 256;
  const auto config = *preset("olmo-hybrid-7b");
  const auto recurrent = count_macs(config, 8192, DeltaForm::recurrent);
  const auto chunked = count_macs(config, 8192, DeltaForm::chunked);
  const double projections = d * (2 * k + v + 2 * h) + 4 * (2 * k + v) + d * v + v * d;
  EXPECT_DOUBLE_EQ(recurrent.attention, 8 * (4 * d * d + d * s + 2.5 * h * s / 2));
  EXPECT_DOUBLE_EQ(recurrent.linear, 24 * (projections + 3 * h * 96 * 192));
  EXPECT_DOUBLE_EQ(chunked.linear, 24 * (projections + chunk * (3 * k + 2 * v) + 3 * k * v / h));
  EXPECT_DOUBLE_EQ(recurrent.mlp, 32 * 3 * d * mlp);
  EXPECT_DOUBLE_EQ(recurrent.head, d * 100352);
  EXPECT_DOUBLE_EQ(training_flops(config, 8192), 6 * chunked.total());
}

TEST(Counts, WindowedAttentionSeesItsWindow) {
  auto config = *preset("olmo3-7b");
  config.layers = {LayerType::sliding_attention};
  const double d = 4096, h = 32, s = 16384, w = 4096;
  // Averaged over positions: below the window half of what was seen, above it the window.
  const double seen = (w / 2 * w + w * (s - w)) / s;
  EXPECT_DOUBLE_EQ(count_macs(config, 16384, DeltaForm::recurrent).attention,
                   4 * d * d + 2 * d * seen + 2.5 * h * seen);
  // A window longer than the text is no window.
  config.layers.push_back(LayerType::full_attention);
  auto full = config;
  full.layers[0] = LayerType::full_attention;
  EXPECT_DOUBLE_EQ(count_macs(config, 2048, DeltaForm::recurrent).attention,
                   count_macs(full, 2048, DeltaForm::recurrent).attention);
}

// Paper Table 1 at 32K and two bytes a number.
TEST(Counts, StateBytesOfThePapersTable) {
  constexpr std::int64_t mib = 1 << 20, length = 32768;
  auto config = *preset("olmo3-7b");
  EXPECT_EQ(state_bytes(config, LayerType::full_attention, length, DType::bf16).total(), 512 * mib);
  config.attention.kv_heads = 8;
  EXPECT_EQ(state_bytes(config, LayerType::full_attention, length, DType::bf16).total(), 128 * mib);
  EXPECT_EQ(state_bytes(config, LayerType::sliding_attention, length, DType::bf16).total(), 16 * mib);
  const auto hybrid = *preset("olmo-hybrid-7b");
  const auto linear = state_bytes(hybrid, LayerType::linear_attention, length, DType::bf16);
  EXPECT_EQ(linear.delta, 4 * 30 * 96 * 192);  // kept in f32: twice the paper's 1.05 MiB
  EXPECT_EQ(linear.convolution, 2 * 3 * (2 * 2880 + 5760));
  EXPECT_EQ(state_bytes(hybrid, LayerType::linear_attention, 1, DType::bf16).total(), linear.total());
}

TEST(Counts, StateBytesAreWhatASessionAllocates) {
  const auto model = test::golden_model("hybrid");  // its states fill whole alignment units
  const Backend backend = make_backend("reference");
  for (const std::int64_t capacity : {1, 40, 256}) {
    const Session session(backend, model.config, model.parameters.tree(),
                          {.sequences = 3, .capacity = capacity});
    std::int64_t bytes = 0;
    for (const auto type : model.config.layers) {
      bytes += 3 * state_bytes(model.config, type, capacity, DType::f32).total();
    }
    EXPECT_EQ(static_cast<std::int64_t>(session.state_bytes()), bytes) << capacity;
  }
}

TEST(Counts, RecomputeKeepsLessAndMeasuresWithoutMemory) {
  const auto config = *preset("olmo-hybrid-7b");  // hundreds of GB if it were allocated
  const Backend backend = make_backend("cpu");
  const auto kept = measure_training(backend, config, 4, 8192, {});
  const auto recomputed =
      measure_training(backend, config, 4, 8192, {.keep = KeepPlan::all_blocks(nn::Keep::input)});
  EXPECT_GE(kept.parameters, std::size_t{4} * 7'430'870'688);
  EXPECT_LT(kept.parameters, std::size_t{4} * 7'430'870'688 + 4096 * kAlignment);
  EXPECT_EQ(kept.optimizer, 2 * kept.gradients);
  EXPECT_GT(kept.activations, 5 * recomputed.activations);
  // With recompute at least each block's input stays.
  EXPECT_GT(recomputed.activations, std::size_t{32} * 4 * 8192 * 3840 * 4);
}

TEST(Presets, NamesAndPatterns) {
  EXPECT_EQ(preset_names().size(), 2 + 7 * 6u);
  EXPECT_FALSE(preset("61m-gdn").has_value());
  EXPECT_FALSE(preset("60m-hybrid-2:1").has_value());
  EXPECT_FALSE(preset("").has_value());
  EXPECT_EQ(preset("190M-Hybrid-3:1"), preset("190m-3:1"));
  EXPECT_EQ(preset("190m-hybrid"), preset("190m-3:1"));
  const auto text = [](Variant v, std::int64_t layers) {
    std::string s;
    for (const auto type : layer_pattern(v, layers)) s += "LFS"[static_cast<std::size_t>(type)];
    return s;
  };
  EXPECT_EQ(text(Variant::transformer, 8), "SSSFSSSF");
  EXPECT_EQ(text(Variant::gdn, 4), "LLLL");
  EXPECT_EQ(text(Variant::hybrid_3_1, 8), "LLLFLLLF");
  EXPECT_EQ(text(Variant::hybrid_1_1, 8), "LFLFLFLF");
  EXPECT_EQ(text(Variant::hybrid_7_1, 12), "LLLLLLLFLLLF");
  EXPECT_EQ(text(Variant::hybrid_middle, 8), "LLLFFLLF");
}

}  // namespace
}  // namespace braid::model
